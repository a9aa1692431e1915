"""From any generation to any other, on real files: what was applied is planned no more, and a rollback is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.cli.history import roll_back
from kloros_infra.cli.wiring import Target, generations_of, observe_target
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from tests.tiny_site import QUIETLY, apply_quietly, end, running, target_at, tiny, tree_of

NAMES = ("kloros-a.service", "kloros-b.service", "kloros-c.service")
SITES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("1", "2")), min_size=1)
NOTES = st.sampled_from(("one", "two"))


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    one = target_at(tmp_path_factory.mktemp("any") / "root")
    yield one
    end(one)


def files(root: Path) -> dict[str, str]:
    """Describe what stands below /etc, but for the generations that nobody runs by."""
    kept = "kloros-infra/generations/"
    return {path: found for path, found in tree_of(root / "etc").items() if not path.startswith(kept)}


def assert_nothing_to_do(desired: Desired, where: Target) -> None:
    made, problems = plan(desired, observe_target(desired, where))
    assert (made.changes, made.steps, problems) == ((), (), ())


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(SITES, NOTES), min_size=2, max_size=3), st.data())
def test_a_plan_that_was_applied_is_empty_and_a_rollback_brings_back_every_byte(
    where: Target, route: list[tuple[Mapping[str, str], str]], data: st.DataObject
) -> None:
    apply_quietly(nothing_desired(where.layout), where)
    seen = {}
    for services, note in route:
        desired = tiny(where, services, note=note)
        apply_quietly(desired, where)
        assert_nothing_to_do(desired, where)
        number = generations_of(where).history().current
        seen[number] = (files(where.root), current_files(where), dict(services))
    for goal in data.draw(st.permutations(list(seen))):
        if goal != generations_of(where).history().current:
            roll_back(where, goal, QUIETLY)
        assert (files(where.root), current_files(where), running(where, frozenset(NAMES))) == seen[goal]


def current_files(where: Target) -> dict[str, str]:
    return tree_of((where.root / where.layout.current).resolve())
