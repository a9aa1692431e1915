"""The life of an instance as a table, polls, and back-off."""

from __future__ import annotations

from itertools import product

import pytest

from kloros_infra.router.events import Verdict
from kloros_infra.router.instance import (
    FAILED_POLLS_LIMIT,
    HOLDING,
    OTHER_PROCESS,
    TRANSITIONS,
    Happening,
    Life,
    State,
    after,
    backoff_s,
    begun,
    is_unhealthy,
    load_limit_s,
    on_poll,
)


def a_life(state: State, **changes: object) -> Life:
    return begun("1", 0.0)._replace(state=state, **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(("state", "happening"), list(product(State, Happening)))
def test_what_is_not_in_the_table_changes_nothing(state: State, happening: Happening) -> None:
    life = a_life(state, failures=2, polled_at=1.0)
    then = after(life, happening, 5.0)
    target = TRANSITIONS.get((state, happening))
    if target is None or target is state:
        assert then is life
    else:
        assert (then.state, then.since, then.failures) == (target, 5.0, 0)
        assert then.polled_at == (None if happening in OTHER_PROCESS else 1.0)


def test_only_what_is_down_or_did_not_load_holds_nothing() -> None:
    assert set(State) - HOLDING == {State.STOPPED, State.FAILED}
    assert all(a_life(state).is_holding is (state in HOLDING) for state in State)


def test_a_load_that_failed_is_left_only_by_another_definition_or_someone_who_starts_it() -> None:
    ways = {happening for (state, happening) in TRANSITIONS if state is State.FAILED}
    assert ways == {
        Happening.START_ORDERED,
        Happening.APPEARED,
        Happening.HEALTHY,
        Happening.LOADS,
        Happening.REDEFINED,
    }


def test_one_failed_poll_takes_an_instance_out_and_one_good_one_brings_it_back() -> None:
    doubted = on_poll(a_life(State.READY, polled_at=0.0), Verdict.FAILING, 1.0)
    assert (doubted.state, doubted.failures, doubted.polled_at) == (State.SUSPECT, 1, None)
    assert not is_unhealthy(doubted)
    well = on_poll(doubted, Verdict.HEALTHY, 2.0)
    assert (well.state, well.failures) == (State.READY, 0)
    assert on_poll(well, Verdict.LOADING, 3.0).state is State.LOADING


def test_the_third_failure_in_a_row_means_that_it_does_not_work() -> None:
    life = a_life(State.READY)
    for _ in range(FAILED_POLLS_LIMIT):
        assert not is_unhealthy(life)
        life = on_poll(life, Verdict.FAILING, 1.0)
    assert is_unhealthy(life)


@pytest.mark.parametrize("state", [State.STARTING, State.LOADING, State.STOPPED, State.FAILED])
def test_nobody_answering_means_nothing_before_it_has_loaded(state: State) -> None:
    life = a_life(state)
    for _ in range(9):
        life = on_poll(life, Verdict.FAILING, 1.0)
    assert life.state is state
    assert not is_unhealthy(life)


def test_restarts_wait_a_second_and_twice_as_long_each_time_up_to_a_minute() -> None:
    assert [backoff_s(count) for count in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10**6) == 60


def test_a_load_may_take_ten_times_as_long_as_expected_and_a_minute_at_least() -> None:
    assert (load_limit_s(1.0), load_limit_s(30.0)) == (60.0, 300.0)
