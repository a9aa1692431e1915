"""Memory is foreseen as a real llama-server needs it, for models of many families on pretend cards.

This is a part of the matrix; `python -m benchmarks.placement_memory` runs all of it and prints a table.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.programs import Program, find_llama_server
from kloros_infra.errors import UnreachableError
from kloros_infra.placement.memory_breakdown import breakdown_problems
from tests.memory_matrix import LLAMA_SERVER, THREE_CARDS, Case, Compared, Oracle, placement_of, small_matrix
from tests.sparse_models import FAMILIES

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Compile the pretend cards once."""
    return Oracle(tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="module")
def compared(oracle: Oracle) -> tuple[Compared, ...]:
    """Ask everything once."""
    return oracle.compared(small_matrix())


def test_every_device_takes_what_was_foreseen(compared: tuple[Compared, ...]) -> None:
    assert {one.case.family for one in compared} == set(FAMILIES)
    assert [str(one) for one in compared if not one.is_as_foreseen] == []


def test_weights_and_states_are_exact(compared: tuple[Compared, ...]) -> None:
    def differs(one: Compared) -> bool:
        foreseen = (one.load.weights_bytes // 2**20, one.load.kv_bytes // 2**20)
        found = (one.measured.weights_mib, one.measured.state_mib)
        # Each tensor starts at a multiple of 128 bytes.
        return any(abs(ours - theirs) > 1 for ours, theirs in zip(foreseen, found, strict=True))

    assert [str(one) for one in compared if differs(one)] == []


def test_a_plan_that_was_made_for_less_context_is_found_out(oracle: Oracle) -> None:
    weights = oracle.file("llama-3.1-8b")
    (case,) = {one.case for one in oracle.compared([Case("llama-3.1-8b", 32768, THREE_CARDS)])}
    measured = [one.measured for one in oracle.compared([case])]
    planned = placement_of(read_header(weights), Case("llama-3.1-8b", 4096, THREE_CARDS))

    found = breakdown_problems(planned, measured, "models.a.profiles.b")

    assert {problem.code for problem in found} == {"KI432"}
    assert "keys and values 176 and 1408" in found[0].detail


@pytest.mark.parametrize(("data", "words"), [(None, "\n    | No such file or directory"), (b"none", "\n    | ")])
def test_a_server_that_cannot_be_asked_is_reported_with_its_last_words(
    tmp_path: Path, data: bytes | None, words: str
) -> None:
    weights = tmp_path / "broken.gguf"
    if data is not None:
        weights.write_bytes(data)

    with pytest.raises(UnreachableError) as caught:
        LlamaServerMemory(find_llama_server(LLAMA_SERVER)).measured(weights, {})

    (problem,) = caught.value.problems
    assert problem.code == "KI430"
    assert words in problem.detail


def test_a_program_that_is_none_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        LlamaServerMemory(Program(str(tmp_path / "nothing"))).measured(tmp_path, {})

    assert "No such file or directory" in str(caught.value)
