"""What placement emits, a real llama-server loads as foreseen: for models of several kinds on pretend cards.

Nothing is computed on these, so that models of any size load in seconds. What goes to the CPU is mapped here and not
read, whatever the plan says of it: it would fill this machine's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.compiler.emit_env import loading_variables
from kloros_infra.ir.catalog import Card, HostMemory, Instance, ModelKind
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.load_check import compare
from kloros_infra.placement.place import Machine, place
from tests.factories import GIB, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights
from tests.fakes.fakecuda import KLOROS_CARDS, build_fakecuda, pretending
from tests.fakes.sparse_gguf import write_sparse_gguf
from tests.loading import loaded
from tests.sparse_models import FAMILIES

pytestmark = pytest.mark.real_model

MIB = 2**20
MAPPED = {"LLAMA_ARG_LOAD_MODE": "mmap", "LLAMA_ARG_MMAP": "true"}
HOST = Machine(HostMemory(usable_bytes=256 * GIB))
ALL, SECOND = (0, 1, 2), (1,)


@dataclass(frozen=True, slots=True)
class Case:
    """A family of models on some of the cards, of which it may use a share.

    `is_mixed` says that something of it is not with its layer.
    """

    family: str
    cards: Sequence[int]
    is_mixed: bool = False
    parallel: int = 1
    share: float = 1.0
    kind: ModelKind = ModelKind.CHAT

    def __str__(self) -> str:
        return f"{self.family} on {len(self.cards)}"


# Each is another rule of memory or another way to divide: whole on one card, layers over three, experts with the CPU,
# experts on other cards, layers with the CPU, a window, a compressed cache, states, an encoder.
CASES = (
    Case("qwen2.5-7b", ALL, parallel=3),
    Case("llama-3.1-8b", ALL, share=0.25),
    Case("gpt-oss-20b", SECOND, is_mixed=True, share=0.7),
    Case("deepseek-v2-lite", ALL, share=0.3),
    Case("gemma-3-12b", SECOND),
    Case("deepseek-v2-lite", SECOND, is_mixed=True, share=0.5),
    Case("mamba2-2.7b", ALL),
    Case("nemotron-h-8b", ALL),
    Case("nomic-embed-text-v1.5", ALL, kind=ModelKind.EMBEDDING),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fakecuda(tmp_path_factory.mktemp("cards"))


def cards_of(case: Case) -> tuple[Card, ...]:
    """Give the cards as CUDA shows them."""
    whole = zip(kloros_cards(), KLOROS_CARDS, strict=True)
    seen = [replace(card, vram_bytes=round(case.share * pretended.total_mib * MIB)) for card, pretended in whole]
    return tuple(seen[index] for index in case.cards)


def placed(case: Case, file: Path) -> tuple[Instance, Placement]:
    model = a_model(weights=some_weights(header=read_header(file)), kind=case.kind)
    serving = a_serving(context_tokens=8192, parallel=case.parallel)
    instance = an_instance(model, a_profile("max", *cards_of(case)), serving=serving)
    placement, problems = place(instance, HOST)
    assert placement is not None, problems
    return instance, placement


def environment(instance: Instance, placement: Placement, library: Path) -> Mapping[str, str]:
    pretended = pretending(library, KLOROS_CARDS, discards=True)
    return {**loading_variables(instance, placement), **pretended, **MAPPED}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plan_loads_and_everything_is_where_it_was_placed(case: Case, library: Path, tmp_path: Path) -> None:
    file = write_sparse_gguf(FAMILIES[case.family](), tmp_path / "model.gguf")
    instance, placement = placed(case, file)
    assert bool(placement.exceptions) is case.is_mixed
    assert placement.fits

    report = loaded(file, environment(instance, placement, library), tmp_path)

    assert compare(placement, report) == ()
    assert report.main is not None
    assert report.main.has_flash_attention
    assert placement.predicted is not None
    assert report.main.graph_splits == placement.predicted.splits


def test_a_server_that_keeps_experts_elsewhere_is_found_out(library: Path, tmp_path: Path) -> None:
    case = Case("deepseek-v2-lite", SECOND, is_mixed=True, share=0.5)
    file = write_sparse_gguf(FAMILIES[case.family](), tmp_path / "model.gguf")
    instance, placement = placed(case, file)
    # The plan of a server with all experts on the CPU.
    emitted = {**environment(instance, placement, library), "LLAMA_ARG_OVERRIDE_TENSOR": f"_exps[.]={CPU}"}

    found = compare(placement, loaded(file, emitted, tmp_path))

    assert {problem.code for problem in found if problem.is_error} == {"KI572", "KI575"}
