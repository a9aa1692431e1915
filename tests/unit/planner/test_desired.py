"""What a catalog and its files ask of a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.catalog import Instance, RpcHost
from kloros_infra.ir.catalog_services import BridgeAddresses
from kloros_infra.ir.gate import ExpectedCard
from kloros_infra.ir.generation import Run
from kloros_infra.ir.load_time import expected_load_s
from kloros_infra.ir.lock import LockedFile
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.place_weights import StoredFile
from kloros_infra.ir.placement import DeviceLoad, Placement
from kloros_infra.ir.rpc_server import HostPart, RpcServer
from kloros_infra.planner.cost import start_timeout_s
from kloros_infra.planner.desired import DerivedWeights, Desired, desired_part, desired_state, nothing_desired
from tests.factories import a_card, a_catalog, a_draft, a_model, a_profile, an_instance, some_weights
from tests.sites import LAYOUT, MiniModel, Site


def runs(desired: Desired) -> dict[str, Run]:
    return {unit.unit: unit.run for unit in desired.units}


def test_units_stand_in_start_order() -> None:
    assert runs(Site().desired()) == {
        "kloros-bus.service": Run.ALWAYS,
        "llama@code-max.service": Run.ALWAYS,
        "llama@code-mid.service": Run.NEVER,
        "llama@chat-max.service": Run.ALWAYS,
        "llama@chat-mid.service": Run.NEVER,
        "kloros-router.service": Run.ALWAYS,
        "kloros-profile-max.target": Run.ALWAYS,
        "kloros-profile-mid.target": Run.NEVER,
        "kloros-profile.service": Run.ALWAYS,
        "kloros-llm.target": Run.ALWAYS,
    }
    assert list(runs(Site().desired()))[:2] == ["kloros-bus.service", "llama@code-max.service"]
    assert list(runs(Site().desired()))[-1] == "kloros-llm.target"


def test_a_model_that_is_not_preloaded_runs_on_demand() -> None:
    site = Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}, preload=False),))
    assert runs(site.desired())["llama@code-max.service"] is Run.ON_DEMAND
    assert runs(site.desired())["llama@code-mid.service"] is Run.NEVER


def test_a_bus_that_others_run_is_none_of_our_units() -> None:
    assert "kloros-bus.service" not in runs(Site(with_bus=False).desired())


def test_units_that_something_else_starts_are_known_too() -> None:
    site = Site(extra={LAYOUT.unit_path("kloros-dirty.service"): "[Service]\nExecStart=touch /run/kloros/dirty\n"})
    assert runs(site.desired())["kloros-dirty.service"] is Run.ON_DEMAND


def test_what_follows_the_cards_starts_last_of_all() -> None:
    units = ("kloros-dirty.path", "kloros-dirty.timer", "kloros-gpu.service", "kloros-reconcile.path")
    found = runs(Site(extra={LAYOUT.unit_path(unit): "[Unit]\n" for unit in units}).desired())
    assert list(found)[-6:] == [
        "kloros-profile.service",
        "kloros-dirty.path",
        "kloros-dirty.timer",
        "kloros-reconcile.path",
        "kloros-gpu.service",
        "kloros-llm.target",
    ]
    assert {found[unit] for unit in units} == {Run.ALWAYS}


def test_readiness_is_asked_where_each_unit_answers() -> None:
    units = {unit.unit: unit for unit in Site().desired().units}
    assert units["kloros-bus.service"].ready_url == "tcp://127.0.0.1:5557"
    assert units["kloros-bus.service"].ports == (5556, 5557)
    assert units["llama@code-max.service"].ready_url == "http://127.0.0.1:8601/health"
    assert units["kloros-router.service"].ready_url == "http://127.0.0.1:11434/health"
    assert units["kloros-llm.target"].ready_url is None


def test_an_ipv6_bridge_is_asked_in_brackets() -> None:
    site = Site()
    catalog = replace(site.catalog(), bridge=BridgeAddresses(host="::1", ports=(1234, 5678)))
    desired = desired_state(catalog, site.tree(), layout=LAYOUT, profile="max")
    router = next(unit for unit in desired.units if unit.unit == "kloros-router.service")
    assert router.ready_url == "http://[::1]:1234/health"
    assert router.ports == (1234, 5678)


@pytest.mark.parametrize(
    ("direct", "ports"),
    [(None, (11434,)), ("tcp://127.0.0.1:5555", (11434, 5555)), ("ipc:///run/kloros-router/direct", (11434,))],
)
def test_the_router_needs_the_port_at_which_it_is_asked_directly(direct: str | None, ports: tuple[int, ...]) -> None:
    site = Site()
    catalog = replace(site.catalog(), bus=replace(site.catalog().bus, direct=direct))
    desired = desired_state(catalog, site.tree(), layout=LAYOUT, profile="max")
    assert next(unit for unit in desired.units if unit.unit == "kloros-router.service").ports == ports


def test_only_weights_of_installed_instances_are_placed() -> None:
    site = Site()
    tree = {path: artifact for path, artifact in site.tree().items() if "llama@chat" not in path}
    desired = desired_state(site.catalog(), tree, layout=LAYOUT, profile="max")
    assert [step.key for step in desired.weights] == ["code@1"]
    (step,) = desired.weights
    assert step.destination == "var/lib/llama-models/code/1/model.gguf"
    assert step.sources == ("file:///weights/small.gguf",)


def with_more_to_load(site: Site, tree: ArtifactTree | None = None) -> Desired:
    """Describe the site where `code` also loads a projector and, to propose tokens, the weights of `chat`."""
    catalog = site.catalog()
    chat = next(model for model in catalog.models if model.id == "chat")
    draft = a_draft("chat", weights=chat.weights)

    def loaded(instance: Instance) -> Instance:
        projector = some_weights("code@1+mmproj", source=("file:///weights/mmproj.gguf",), size_bytes=10**9)
        model = replace(instance.model, projector=projector, draft=draft)
        return instance if instance.model.id == "chat" else replace(instance, model=model)

    instances = tuple(loaded(instance) for instance in catalog.instances)
    return desired_state(replace(catalog, instances=instances), tree or site.tree(), layout=LAYOUT, profile="max")


def test_projectors_and_draft_models_are_placed_too_each_once() -> None:
    desired = with_more_to_load(Site())
    store = "var/lib/llama-models"
    assert [(step.key, step.destination) for step in desired.weights] == [
        ("code@1", f"{store}/code/1/model.gguf"),
        ("code@1+mmproj", f"{store}/code/1/mmproj.gguf"),
        ("chat@1", f"{store}/chat/1/model.gguf"),
    ]
    code = next(unit for unit in desired.units if unit.unit == "llama@code-max.service")
    assert code.weights == tuple(step.destination for step in desired.weights)
    assert code.load_bytes == 4 * 10**9 + 10**9 + 4 * 10**9


def test_a_draft_model_s_weights_are_placed_where_it_has_no_instance_itself() -> None:
    site = Site()
    tree = {path: artifact for path, artifact in site.tree().items() if "llama@chat" not in path}
    assert [step.key for step in with_more_to_load(site, tree).weights] == ["code@1", "code@1+mmproj", "chat@1"]


def test_the_parts_of_a_split_gguf_are_placed_one_by_one() -> None:
    first, second = "hf://o/r/x-00001-of-00002.gguf", "hf://o/r/x-00002-of-00002.gguf"
    weights = replace(
        some_weights("large@1", source=(first,), size_bytes=5),
        files=(LockedFile(first, 3, "a" * 64), LockedFile(second, 2, "b" * 64)),
    )
    instance = an_instance(a_model("large", weights=weights))
    tree = {LAYOUT.unit_path(instance.id.unit): TextFile("")}
    (step,) = desired_state(a_catalog(instance), tree, layout=LAYOUT, profile="cpu_only").weights
    folder = "var/lib/llama-models/large/1"
    assert step.files == (
        StoredFile(f"{folder}/model-00001-of-00002.gguf", (first,), 3, "a" * 64),
        StoredFile(f"{folder}/model-00002-of-00002.gguf", (second,), 2, "b" * 64),
    )
    assert (step.size_bytes, step.destination) == (5, f"{folder}/model-00001-of-00002.gguf")


def test_weights_that_many_share_are_derived_for_all_of_them() -> None:
    site = Site(models=(MiniModel("chat", {"max": 8611}, is_derived=True), MiniModel("code", {"max": 8601})))
    assert with_more_to_load(site).derived == (
        DerivedWeights("chat@1", ("llama@chat-max.service", "llama@code-max.service")),
    )


def test_derived_weights_are_named_with_their_units_and_not_placed() -> None:
    desired = Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}, is_derived=True),)).desired()
    assert desired.weights == ()
    assert desired.derived == (DerivedWeights("code@1", ("llama@code-max.service", "llama@code-mid.service")),)


def test_as_many_generations_are_kept_as_the_catalog_says() -> None:
    site = Site()
    assert site.desired().keep_generations == 10
    catalog = replace(site.catalog(), keep_generations=3)
    assert desired_state(catalog, site.tree(), layout=LAYOUT, profile="max").keep_generations == 3


def test_destroy_wants_nothing() -> None:
    assert nothing_desired(LAYOUT).is_destroyed
    assert nothing_desired(LAYOUT).keeps_weights
    assert not nothing_desired(LAYOUT, with_weights=True).keeps_weights
    assert not replace(nothing_desired(LAYOUT), tree={"etc/x": TextFile("")}).is_destroyed


def test_a_deadline_is_far_beyond_what_is_expected() -> None:
    for size in (0, 10**8, 10**11):
        assert start_timeout_s(size) > 10 * expected_load_s(size)


def test_a_placed_instance_has_a_gate_that_knows_its_cards() -> None:
    card = a_card(uuid="GPU-1")
    instance = an_instance(a_model("code"), a_profile("max", card), port=8601)
    gpu = DeviceLoad("CUDA0", card.name, 2, 1, 1, 1, card.usable_bytes)
    placement = Placement("fit", ("CUDA0",), (), (gpu, DeviceLoad("CPU", None, 0, 0, 0, 0, None)), 2048, 1, 512)
    tree = {LAYOUT.unit_path(instance.id.unit): TextFile("")}
    desired = desired_state(
        a_catalog(instance), tree, layout=LAYOUT, profile="max", placements={instance.id: placement}
    )
    gate = desired.units[0].gate
    assert gate is not None
    assert (gate.base_url, gate.placement, gate.kind) == ("http://127.0.0.1:8601", placement, instance.model.kind)
    assert gate.card_uuids == (("CUDA0", "GPU-1"),)
    assert gate.cards == (ExpectedCard("CUDA0", card.name, card.vram_bytes),)
    assert desired_state(a_catalog(instance), tree, layout=LAYOUT, profile="max").units[0].gate is None


def test_a_host_that_lends_its_cards_runs_each_server() -> None:
    host = RpcHost("gaming", "10.0.0.7", "lan0", "/opt/ggml-rpc-server", ("10.0.0.3",), ())
    ports = {"code": 50052, "chat": 50053}
    servers = tuple(RpcServer(InstanceId(name, "max"), host, port, ()) for name, port in ports.items())

    desired = desired_part(HostPart(host, servers, {}), {}, layout=LAYOUT, exposure_limit=2.0)

    assert runs(desired) == {
        "kloros-rpc@code-max.service": Run.ALWAYS,
        "kloros-rpc@chat-max.service": Run.ALWAYS,
        "kloros-llm.target": Run.ALWAYS,
    }
    assert [(unit.ready_url, unit.ports) for unit in desired.units[:2]] == [
        ("listen://10.0.0.7:50052", (50052,)),
        ("listen://10.0.0.7:50053", (50053,)),
    ]
    assert (desired.profile, desired.weights, desired.exposure_limit) == ("", (), 2.0)
