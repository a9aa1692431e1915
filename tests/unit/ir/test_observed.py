"""What systemd says of a unit, and what later systemds may say."""

from __future__ import annotations

import pytest

from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.seen_unit import seen_unit


@pytest.mark.parametrize("word", ["active", "reloading", "refreshing", "a word of tomorrow"])
def test_a_unit_of_which_a_later_systemd_says_something_new_is_up(word: str) -> None:
    state = ActiveState(word)
    assert UnitState("x.service", state).is_active
    assert seen_unit(state, 7) == (True, 7, False, False, False)


def test_a_unit_that_was_left_to_its_administrator_has_a_process_and_does_not_serve() -> None:
    state = ActiveState("maintenance")
    assert not UnitState("x.service", state).is_up
    assert seen_unit(state, 7).is_up
