"""What placement emits, a real llama-server loads as foreseen: for models of several kinds on pretend cards.

This is a part of the matrix; `python -m benchmarks.placement_landing` runs all of it and prints a table.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kloros_infra.compiler.emit_env import loading_variables
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.load_check import compare
from kloros_infra.placement.place import Machine, place
from tests.fakes.sparse_gguf import write_sparse_gguf
from tests.landing_matrix import (
    EDGES,
    HOST_MEMORY,
    TOO_SMALL,
    Case,
    Landed,
    Landing,
    cards_for,
    header_of,
    instance_of,
    small_matrix,
    too_full,
)
from tests.loading import loaded
from tests.sparse_models import FAMILIES

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Landing:
    """Compile the pretend cards once."""
    return Landing(tmp_path_factory.mktemp("landing"))


@pytest.fixture(scope="module")
def landed(landing: Landing) -> Mapping[Case, Landed]:
    """Load everything once, some at a time."""
    return {one.case: one for one in landing.landed(small_matrix())}


@pytest.mark.parametrize("case", small_matrix(), ids=str)
def test_a_plan_loads_and_everything_is_where_it_was_placed(case: Case, landed: Mapping[Case, Landed]) -> None:
    assert landed[case].problems == () or landed[case].has_layers_on_cpu
    assert landed[case].failures == ()


def test_plans_of_all_kinds_are_loaded(landed: Mapping[Case, Landed]) -> None:
    assert sum(one.is_whole_on_cards for one in landed.values()) >= 3
    assert sum(one.has_experts_elsewhere for one in landed.values()) >= 3
    assert sum(one.has_layers_on_cpu for one in landed.values()) >= 3


@pytest.mark.parametrize("case", EDGES, ids=lambda case: case.family)
def test_the_least_card_that_is_enough_is_enough(case: Case, landing: Landing) -> None:
    assert landing.edge(case).failures == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_room_nowhere_is_refused(family: str) -> None:
    placement, problems = too_full(Case(family, 16384, TOO_SMALL))

    assert placement is None
    assert {problem.code for problem in problems} == {"KI413"}


def test_a_server_that_keeps_experts_elsewhere_is_found_out(
    landing: Landing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = Case("gpt-oss-20b", 8192, TOO_SMALL)
    cards, folder = cards_for(header_of(case.family), case), tmp_path_factory.mktemp("elsewhere")
    instance = instance_of(case, cards)
    placement, _ = place(instance, Machine(HOST_MEMORY))
    assert placement is not None
    # The plan of a server with all experts on the CPU.
    emitted = {**loading_variables(instance, placement), "LLAMA_ARG_OVERRIDE_TENSOR": f"_exps[.]={CPU}"}
    file = write_sparse_gguf(FAMILIES[case.family](), folder / "model.gguf")

    found = compare(placement, loaded(file, {**emitted, **landing.environment(cards)}, folder))

    assert "KI572" in {problem.code for problem in found if problem.is_error}
