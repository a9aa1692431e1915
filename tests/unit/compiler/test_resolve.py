"""Config + Lock → Catalog; what is refused is in tests/cases/diagnostics, save for the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.catalog import Catalog, HostMemory, MeasuredSpeed, PlacementMode
from kloros_infra.ir.catalog_services import BridgeAddresses, BusAddresses
from kloros_infra.ir.config import Config
from kloros_infra.ir.lock import Lock, Origin, weights_key
from kloros_infra.placement.place import check_together, place
from kloros_infra.placement.published import derive_header
from tests.factories import GIB, a_7b_header, a_gguf_header, a_lock, a_lock_for, some_weights

ROOT = Path(__file__).parents[3]
TEXT = """\
version: 1
hosts:
  box: {}
  attic: {role: remote, address: 192.0.2.7, upstream: {kind: ollama, port: 11434, models: {far: "far:7b"}}}
gpus:
  late:
    {host: box, pci: "0000:07:00.0", uuid: GPU-00000000-0000-0000-0000-000000000007,
     vram: 11GiB, bandwidth: 484GB/s, compute_capability: "6.1"}
  nowhere:
    {host: box, uuid: GPU-00000000-0000-0000-0000-000000000008,
     vram: 8GiB, bandwidth: 200GB/s, compute_capability: "10.0", reserve: 0B}
  early:
    {host: box, pci: "0000:04:00.0", uuid: GPU-00000000-0000-0000-0000-000000000004,
     vram: 12GiB, bandwidth: 360GB/s, compute_capability: "8.6", reserve: 1GiB}
  remote:
    {host: attic, pci: "0000:04:00.0", uuid: GPU-00000000-0000-0000-0000-000000000001,
     vram: 16GiB, bandwidth: 960GB/s, compute_capability: "12.0"}
profiles:
  mid: {gpus: [late, early]}
  other: {gpus: [nowhere]}
  cpu_only: {gpus: []}
defaults: {parallel: 2, preload: false, placement: fit}
models:
  - id: first
    display_name: First
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    current_version: "2"
    versions:
      - {version_id: "1", gguf_url: file:///weights/1.gguf}
      - {version_id: "2", gguf_url: [file:///weights/2.part0, file:///weights/2.part1]}
    profiles:
      mid: {port: 8601, placement: manual, gpu_percentages: [60, 40.4]}
      other: null
      cpu_only: {port: 8602}
  - id: second
    name: named
    display_name: Second
    aliases: [second, "second:7b"]
    purpose_tags: [deep]
    context_tokens: 4096
    cost_tier: high
    parallel: 1
    preload: true
    placement: manual
    current_version: "1"
    versions:
      - {version_id: "1", gguf_url: file:///weights/3.gguf}
    profiles:
      other: {port: 8603}
  - id: far
    display_name: Far away
    purpose_tags: [deep]
    context_tokens: 4096
    cost_tier: high
personas:
  - {id: far-pirate, base_model: far}
  - {id: pirate, base_model: first, system_prompt: Arr., sampling: {top_k: 40, temperature: 0}, stop: [END]}
purposes:
  deep: {candidates: [far, second], otherwise: fast}
  fast: {candidates: [first, second], default: true}
bus: {managed: false}
"""


def parsed(text: str = TEXT) -> Parsed:
    found, problems = parse(text, file="models.yaml")
    assert problems == ()
    assert found is not None
    return found


def resolved(text: str = TEXT) -> tuple[Catalog, Problems]:
    found = parsed(text)
    catalog, problems = resolve(found, a_lock_for(found.config))
    assert catalog is not None
    return catalog, problems


def test_cards_are_numbered_in_pci_order_of_their_host() -> None:
    catalog, _ = resolved()
    late, early = catalog.profiles[0].cards
    (nowhere,) = catalog.profiles[1].cards

    assert (early.cuda_index, late.cuda_index, nowhere.cuda_index) == (0, 1, 2)
    assert catalog.profiles[2].cards == ()


def test_cards_carry_their_figures() -> None:
    catalog, _ = resolved()
    late, early = catalog.profiles[0].cards
    (nowhere,) = catalog.profiles[1].cards

    assert (late.reserve_bytes, early.reserve_bytes, nowhere.reserve_bytes) == (GIB // 2, GIB, 0)
    assert (late.compute_capability, nowhere.compute_capability) == ((6, 1), (10, 0))
    assert early.bandwidth_bytes_per_s == 360 * 10**9


def test_figures_that_are_not_written_are_those_of_the_card() -> None:
    plain = 'vram: 12GiB, bandwidth: 360GB/s, compute_capability: "8.6"'
    catalog, problems = resolved(TEXT.replace(plain, "name: NVIDIA GeForce RTX 3060"))
    _, early = catalog.profiles[0].cards

    assert [problem.code for problem in problems] == [problem.code for problem in resolved()[1]]
    assert (early.vram_bytes, early.bandwidth_bytes_per_s) == (11906 * 2**20, 360 * 10**9)
    assert (early.compute_capability, early.model) == ((8, 6), "NVIDIA GeForce RTX 3060")
    assert resolved()[0].profiles[0].cards[1].vram_bytes == 12 * GIB


def test_figures_of_a_card_and_of_the_host_can_be_written() -> None:
    more = "vram: 12GiB, tflops: 51, link: 8GB/s, layer_overhead: 0.03ms, measured: {decode: 0.9},"
    host = "memory: 48GiB, memory_bandwidth: 80GB/s, measured: {prefill: 1.5}"
    text = TEXT.replace("vram: 12GiB,", more).replace("box: {}", f"box: {{{host}}}")
    catalog, _ = resolved(text)
    _, early = catalog.profiles[0].cards

    assert (early.tflops, early.link_bytes_per_s) == (51.0, 8 * 10**9)
    assert early.layer_overhead_s == pytest.approx(30e-6)
    assert early.measured == MeasuredSpeed(decode=0.9)
    assert catalog.memory == HostMemory(80 * 10**9, 48 * GIB, MeasuredSpeed(prefill=1.5))
    assert resolved()[0].memory == HostMemory()


def test_defaults_are_applied_where_a_model_is_silent() -> None:
    catalog, _ = resolved()
    first, second = catalog.instances[1].serving, catalog.instances[-1].serving

    assert [model.name for model in catalog.models] == ["first", "named"]
    assert (first.parallel, first.preload, first.placement) == (2, False, PlacementMode.FIT)
    assert (second.parallel, second.preload, second.placement) == (1, True, PlacementMode.MANUAL)


def test_the_current_version_is_bound_to_its_weights() -> None:
    catalog, _ = resolved()

    assert catalog.models[0].version_id == "2"
    assert catalog.models[0].weights.source == ("file:///weights/2.part0", "file:///weights/2.part1")


def test_there_is_an_instance_for_every_profile_with_a_port() -> None:
    catalog, _ = resolved()

    assert [(i.id.unit, i.port, i.gpu_percentages) for i in catalog.instances] == [
        ("llama@first-mid.service", 8601, (60.0, 40.4)),
        ("llama@first-cpu_only.service", 8602, None),
        ("llama@named-other.service", 8603, None),
    ]
    assert catalog.instances[0].profile is catalog.profiles[0]
    assert catalog.instances[0].model is catalog.models[0]


def test_personas_purposes_and_addresses_are_taken_over() -> None:
    catalog, _ = resolved()

    assert catalog.personas[1].sampling == (("temperature", 0.0), ("top_k", 40))
    assert [(p.name, p.otherwise, p.is_default) for p in catalog.purposes] == [
        ("deep", "fast", False),
        ("fast", None, True),
    ]
    assert (catalog.host, catalog.llama_server) == ("box", "/opt/llama.cpp/llama-server")
    assert catalog.bus == BusAddresses(
        "tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557", is_managed=False, direct="tcp://127.0.0.1:5555"
    )
    assert catalog.bridge == BridgeAddresses("127.0.0.1", (11434,))


def test_how_many_generations_are_kept_is_taken_over() -> None:
    assert resolved()[0].keep_generations == 10
    assert resolved(f"{TEXT}storage: {{keep_generations: 3}}\n")[0].keep_generations == 3


def test_what_only_remote_hosts_serve_has_no_weights() -> None:
    catalog, _ = resolved()

    assert [model.id for model in catalog.models] == ["first", "second"]
    assert [model.id for model in catalog.remote_models] == ["far"]
    assert [persona.id for persona in catalog.personas] == ["far-pirate", "pirate"]
    assert catalog.purposes[0].candidates == ("far", "second")


def test_only_what_is_odd_is_warned_of() -> None:
    _, problems = resolved()

    assert [(p.code, p.address) for p in problems] == [
        ("KI224", "gpus.remote"),
    ]


def test_without_a_marked_default_the_first_purpose_is_it() -> None:
    catalog, problems = resolved(TEXT.replace(", default: true", ""))

    assert [p.is_default for p in catalog.purposes] == [True, False]
    assert "KI218" in [p.code for p in problems]


def test_a_file_may_have_no_purposes() -> None:
    text = TEXT[: TEXT.index("purposes:\n  deep")]

    catalog, problems = resolved(text)

    assert catalog.purposes == ()
    assert [p.code for p in problems] == ["KI224"]


def against(lock: Lock) -> list[tuple[str, str, Severity]]:
    catalog, problems = resolve(parsed(), lock)
    assert (catalog is None) is any(p.is_error for p in problems)
    return [(p.code, p.address, p.severity) for p in problems if p.code.startswith("KI3")]


FIRST = some_weights("first@2", source=("file:///weights/2.part0", "file:///weights/2.part1"), header=a_7b_header())
SECOND = some_weights("second@1", source=("file:///weights/3.gguf",), header=a_7b_header())


def test_versions_that_the_lock_does_not_know_are_refused() -> None:
    assert against(a_lock(FIRST)) == [("KI301", "models.second.versions.1.gguf_url", Severity.ERROR)]


def test_versions_locked_from_elsewhere_are_refused() -> None:
    moved = some_weights("second@1", source=("file:///weights/old.gguf",), header=a_7b_header())

    assert against(a_lock(FIRST, moved)) == [("KI302", "models.second.versions.1.gguf_url", Severity.ERROR)]


def test_parts_that_the_lock_does_not_know_are_refused() -> None:
    assert against(a_lock(SECOND)) == [("KI301", "models.first.versions.2.gguf_url", Severity.ERROR)]


def test_derived_headers_are_warned_of() -> None:
    derived = some_weights("second@1", source=("file:///weights/3.gguf",), header=a_7b_header(), origin=Origin.DERIVED)

    assert against(a_lock(FIRST, derived)) == [("KI303", "models.second.versions.1.gguf_url", Severity.WARNING)]


def test_a_context_beyond_training_is_warned_of() -> None:
    short = some_weights("second@1", source=("file:///weights/3.gguf",), header=a_gguf_header(context=4095))

    assert against(a_lock(FIRST, short)) == [("KI304", "models.second.context_tokens", Severity.WARNING)]
    exact = some_weights("second@1", source=("file:///weights/3.gguf",), header=a_gguf_header(context=4096))
    assert against(a_lock(FIRST, exact)) == []


@pytest.mark.parametrize(
    ("percentages", "is_accepted"),
    [("[50, 50]", True), ("[49.5, 50]", True), ("[50, 50.5]", True), ("[49.4, 50]", False), ("[100, 0.6]", False)],
)
def test_shares_may_be_rounded(percentages: str, is_accepted: bool) -> None:
    found = parsed(TEXT.replace("[60, 40.4]", percentages))

    catalog, _ = resolve(found, a_lock_for(found.config))

    assert (catalog is not None) is is_accepted


@pytest.mark.parametrize(
    ("new", "old", "codes"),
    [
        ("10.0", "7.0", ["KI222"]),
        ("12.0", "6.1", ["KI222"]),
        ("10.0", "7.5", []),
        ("9.0", "6.1", []),
        ("8.6", "6.1", []),
    ],
)
def test_blackwell_and_older_than_turing_do_not_share_a_driver(new: str, old: str, codes: list[str]) -> None:
    text = TEXT.replace('"8.6"', f'"{new}"').replace('"6.1"', f'"{old}"')

    _, problems = resolved(text)

    assert [p.code for p in problems if p.code == "KI222"] == codes


@pytest.mark.parametrize("port", [1024, 32767, 61000])
def test_ports_at_the_edges_are_free_to_use(port: int) -> None:
    _, problems = resolved(TEXT.replace("8601", str(port)))

    assert [p.code for p in problems] == ["KI224"]


@pytest.mark.parametrize(("port", "code"), [(1023, "KI212"), (32768, "KI213"), (60999, "KI213")])
def test_ports_beyond_the_edges_are_told(port: int, code: str) -> None:
    found = parsed(TEXT.replace("8601", str(port)))

    _, problems = resolve(found, a_lock_for(found.config))

    assert code in [p.code for p in problems]


def test_the_kloros_machine_resolves_with_the_warnings_that_are_true_of_it() -> None:
    catalog, problems = resolved((ROOT / "models.yaml").read_text())

    assert [p.code for p in problems] == ["KI221", "KI221", "KI221", "KI222"]
    assert [card.cuda_index for card in catalog.profiles[0].cards] == [0, 1, 2]
    assert [profile.name for profile in catalog.profiles] == ["max", "mid", "fallback", "cpu_only"]


def a_derived_lock(config: Config) -> Lock:
    """Derive every header from the published architecture that its version names."""
    entries = []
    for model in config.models:
        for version in model.versions:
            header = derive_header(version.architecture or "", version.quantization or "")
            assert header is not None
            key = weights_key(model.id, version.version_id)
            entries.append(some_weights(key, origin=Origin.DERIVED, source=version.gguf_url, header=header))
    return a_lock(*entries)


def test_every_instance_of_the_kloros_machine_fits_and_so_do_those_loaded_at_start_together() -> None:
    found = parsed((ROOT / "models.yaml").read_text())
    catalog, _ = resolve(found, a_derived_lock(found.config))
    assert catalog is not None

    placements = {instance: place(instance)[0] for instance in catalog.instances}

    preloaded = {i.id: placed for i, placed in placements.items() if placed is not None and i.serving.preload}
    assert None not in placements.values()
    assert {str(id) for id in preloaded} == {
        f"{model}-{profile.name}" for model in ("fast", "embedding") for profile in catalog.profiles
    }
    assert check_together(preloaded) == ()


def test_the_laptop_resolves_without_a_word() -> None:
    catalog, problems = resolved((ROOT / "examples" / "laptop" / "models.yaml").read_text())

    assert problems == ()
    assert catalog.llama_server.startswith("package://")
