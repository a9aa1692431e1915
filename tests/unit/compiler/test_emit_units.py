"""What a unit says about its neighbours and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.limits import (
    CARD_BYTES,
    MIB,
    RESTART_LIMIT,
    RESTART_S,
    SLOWEST_READ_BYTES_PER_S,
    memory_max_bytes,
    start_limit_interval_s,
)
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import Catalog, Instance, PlacementMode, Sandbox
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.names import NODES_UNIT
from kloros_infra.placement.place import place
from kloros_infra.supervisor.unit_file import UnitFile, parse_unit_file
from tests.factories import (
    GIB,
    a_card,
    a_catalog,
    a_draft,
    a_model,
    a_profile,
    a_sandbox,
    a_serving,
    an_instance,
    kloros_cards,
    some_weights,
)

LAYOUT = Layout()


def units_of(catalog: Catalog) -> Mapping[str, UnitFile]:
    """Emit a catalog and read its units as the embedded supervisor does."""
    placements = {instance.id: place(instance)[0] for instance in catalog.instances}
    tree = emit(catalog, {id: one for id, one in placements.items() if one}, read_templates(), LAYOUT)
    found: dict[str, UnitFile] = {}
    for path, file in tree.items():
        unit = LAYOUT.unit_at(path)
        if unit and isinstance(file, TextFile):
            found[unit], problems = parse_unit_file(unit, file.text, path=path)
            assert problems == ()
    return found


def value(unit: UnitFile, section: str, key: str) -> str | None:
    setting = unit.last(section, key)
    return setting.value if setting else None


def three_profiles() -> tuple[Instance, ...]:
    """One model under three profiles, under the first on both cards, and another there; the last shares no card."""
    fast, slow, old = kloros_cards()
    code, chat = a_model("code"), a_model("chat")
    high, mid, low = a_profile("high", fast, slow), a_profile("mid", slow), a_profile("low", old)
    return (
        an_instance(code, high, port=8601, serving=a_serving(placement=PlacementMode.MANUAL), layers=(1, 2)),
        an_instance(chat, high, port=8611, serving=a_serving(preload=False)),
        an_instance(code, mid, port=8602),
        an_instance(code, low, port=8603),
    )


def test_instances_of_one_model_exclude_each_other_on_the_same_cards() -> None:
    units = units_of(a_catalog(*three_profiles()))

    rivals = {name: unit.names("Conflicts") for name, unit in units.items() if name.startswith("llama@")}
    assert rivals == {
        "llama@code-high.service": ("llama@code-mid.service",),
        "llama@code-mid.service": ("llama@code-high.service",),
        "llama@code-low.service": (),
        "llama@chat-high.service": (),
    }


def test_an_instance_that_is_placed_as_it_starts_excludes_all_of_its_model() -> None:
    high, *others = three_profiles()
    low = replace(others.pop(), serving=a_serving(placement=PlacementMode.FIT))
    units = units_of(a_catalog(high, *others, low))

    assert units["llama@code-low.service"].names("Conflicts") == ("llama@code-high.service", "llama@code-mid.service")


def test_an_instance_waits_for_those_that_held_its_cards() -> None:
    units = units_of(a_catalog(*three_profiles()))

    code_high, code_mid, chat_high = (f"llama@{name}.service" for name in ("code-high", "code-mid", "chat-high"))
    assert units[code_high].names("After") == (NODES_UNIT,)
    assert units[code_mid].names("After") == (NODES_UNIT, chat_high, code_high)
    assert units["llama@code-low.service"].names("After") == (NODES_UNIT,)


@given(st.permutations(range(4)))
def test_the_order_of_instances_never_becomes_a_circle(order: list[int]) -> None:
    instances = three_profiles()
    units = units_of(a_catalog(*(instances[place] for place in order)))
    after = {name: set(unit.names("After")) & units.keys() for name, unit in units.items() if name.startswith("llama@")}
    while ready := [name for name, earlier in after.items() if not earlier & after.keys()]:
        after = {name: earlier for name, earlier in after.items() if name not in ready}

    assert after == {}


def test_an_instance_with_cards_has_the_nodes_of_the_driver_made_first() -> None:
    units = units_of(a_catalog(*three_profiles(), an_instance(a_model("code"), a_profile("cpu_only"), port=8604)))

    waiting = {name for name, unit in units.items() if NODES_UNIT in unit.names("Wants")}
    assert {name for name in units if name.startswith("llama@")} - waiting == {"llama@code-cpu_only.service"}
    assert waiting == {name for name, unit in units.items() if NODES_UNIT in unit.names("After")}


def test_a_profile_is_a_marker_that_excludes_the_others_and_starts_nothing() -> None:
    units = units_of(a_catalog(*three_profiles()))
    high = units["kloros-profile-high.target"]

    assert high.names("Wants", "Requires") == ()
    assert high.names("Conflicts") == ("kloros-profile-low.target", "kloros-profile-mid.target")
    assert high.names("PartOf") == ("kloros-llm.target",)


def test_systemd_remembers_what_is_preloaded_although_nothing_wants_it() -> None:
    target = units_of(a_catalog(*three_profiles()))["kloros-llm.target"]

    assert target.names("PropagatesStopTo") == tuple(f"llama@code-{name}.service" for name in ("high", "low", "mid"))
    assert not [name for name in target.names("Wants") if name.startswith("llama@")]


def test_an_instance_stops_with_everything_and_not_with_its_profile() -> None:
    unit = units_of(a_catalog(*three_profiles()))["llama@chat-high.service"]

    assert unit.names("PartOf") == ("kloros-llm.target",)


def test_only_instances_that_use_cards_see_devices() -> None:
    on_processor = an_instance(
        a_model("chat"),
        a_profile("gpu", a_card()),
        port=8602,
        serving=a_serving(placement=PlacementMode.MANUAL),
        layers=(0,),
    )
    instances = an_instance(profile=a_profile("gpu", a_card())), on_processor, an_instance(profile=a_profile("cpu"))
    units = units_of(a_catalog(*instances))
    with_card = units["llama@small-gpu.service"]

    assert value(with_card, "Service", "DeviceAllow") == "char-nvidia* rw"
    assert value(with_card, "Service", "PrivateDevices") is None
    assert with_card.names("Wants") == (NODES_UNIT,)
    for name in ("llama@chat-gpu.service", "llama@small-cpu.service"):
        assert value(units[name], "Service", "DeviceAllow") is None
        assert value(units[name], "Service", "PrivateDevices") == "yes"
        assert not units[name].names("Wants")


def test_derived_weights_are_marked_as_such() -> None:
    model = a_model(weights=some_weights(origin=Origin.DERIVED))
    unit = units_of(a_catalog(an_instance(model)))["llama@small-cpu_only.service"]

    assert value(unit, "Unit", "X-Kloros-Weights") == "derived"


def test_all_that_is_loaded_must_be_there_and_counts() -> None:
    alone = a_model("sees")
    model = replace(alone, projector=some_weights("sees@1+mmproj"), draft=a_draft("tiny"))
    units = units_of(a_catalog(an_instance(model))), units_of(a_catalog(an_instance(alone)))
    unit, without = (each["llama@sees-cpu_only.service"] for each in units)

    assert [one.value for one in unit.all("Unit", "AssertPathExists")] == [
        "/var/lib/llama-models/sees/1/model.gguf",
        "/var/lib/llama-models/sees/1/mmproj.gguf",
        "/var/lib/llama-models/tiny/1/model.gguf",
    ]
    assert mib(unit) > mib(without)


def mib(unit: UnitFile) -> int:
    return int((value(unit, "Service", "MemoryMax") or "").removesuffix("M"))


def test_the_sandbox_is_as_wide_as_it_is_written() -> None:
    def instance(sandbox: Sandbox) -> UnitFile:
        return units_of(a_catalog(an_instance(), sandbox=sandbox))["llama@small-cpu_only.service"]

    plain = instance(a_sandbox())
    wide = instance(
        a_sandbox(
            read_only_paths=("/home/kloros/w", "/opt/lora"),
            memory_headroom_bytes=2 * GIB,
            cpu_weight=50,
            io_weight=20,
        )
    )

    assert value(plain, "Service", "ProtectHome") == "yes"
    assert value(wide, "Service", "ProtectHome") == "tmpfs"
    assert [one.value for one in wide.all("Service", "BindReadOnlyPaths")] == ["/home/kloros/w", "/opt/lora"]
    assert mib(wide) - mib(plain) == 1024
    assert [value(wide, "Service", key) for key in ("CPUWeight", "IOWeight")] == ["50", "20"]
    assert [value(plain, "Service", key) for key in ("CPUWeight", "IOWeight", "BindReadOnlyPaths")] == [None] * 3


def test_the_router_logs_as_much_as_it_is_told() -> None:
    unit = units_of(a_catalog(log_level="debug"))["kloros-router.service"]

    assert (value(unit, "Service", "ExecStart") or "").endswith(" --log-level debug")


@given(st.integers(0, 500 * 10**9))
def test_a_model_that_always_fails_after_loading_is_given_up(weights_bytes: int) -> None:
    slowest_load_s = weights_bytes / SLOWEST_READ_BYTES_PER_S
    refused_start_s = RESTART_LIMIT * (slowest_load_s + RESTART_S)

    assert refused_start_s < start_limit_interval_s(weights_bytes)


def test_memory_counts_the_file_the_cpu_part_and_the_cards() -> None:
    model = a_model()
    size = model.weights.size_bytes
    on_cpu, _ = place(an_instance(model))
    on_cards, _ = place(an_instance(model, a_profile("gpu", a_card())))
    assert on_cpu
    assert on_cards
    fixed = 100 * MIB + 300 * MIB

    without, with_card = (
        memory_max_bytes(placement, weights_bytes=size, prompt_cache_bytes=100 * MIB, headroom_bytes=300 * MIB)
        for placement in (on_cpu, on_cards)
    )
    cpu_part, rest = on_cpu.loads[-1].total_bytes, on_cards.loads[-1].total_bytes
    assert 0 <= without - (size + cpu_part + fixed) < MIB
    assert 0 <= with_card - (size + rest + fixed + CARD_BYTES) < MIB
    assert without % MIB == 0
