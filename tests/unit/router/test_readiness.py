"""Readiness over time: polls, failed requests, back-off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.readiness import (
    LAST_UNREADY_POLL_S,
    READY_POLL_S,
    Readiness,
    UpstreamState,
    newly_seen,
    on_poll,
    on_unreached,
)


def a_ready_state(now: float = 0.0) -> UpstreamState:
    return on_poll(newly_seen(now), is_healthy=True, now=now)


def test_a_new_upstream_is_unknown_and_polled_at_once() -> None:
    state = newly_seen(7.0)
    assert (state.readiness, state.next_poll_at, state.is_ready) == (Readiness.UNKNOWN, 7.0, False)


def test_one_good_poll_makes_ready_and_the_next_is_after_five_seconds() -> None:
    state = a_ready_state(1.0)
    assert (state.is_ready, state.since, state.next_poll_at) == (True, 1.0, 6.0)
    again = on_poll(state, is_healthy=True, now=6.0)
    assert (again.since, again.next_poll_at) == (1.0, 6.0 + READY_POLL_S)


def test_three_missed_polls_make_unready_and_two_do_not() -> None:
    state = a_ready_state()
    for missed in range(2):
        state = on_poll(state, is_healthy=False, now=float(missed))
        assert state.is_ready
    state = on_poll(state, is_healthy=False, now=9.0)
    assert (state.readiness, state.since) == (Readiness.UNREADY, 9.0)


def test_a_good_poll_in_between_starts_the_count_again() -> None:
    state = a_ready_state()
    for is_healthy in (False, False, True, False, False):
        state = on_poll(state, is_healthy=is_healthy, now=0.0)
    assert state.is_ready


def test_an_unready_upstream_is_polled_soon_then_less_often() -> None:
    state, now, pauses = newly_seen(0.0), 0.0, []
    for _ in range(6):
        state = on_poll(state, is_healthy=False, now=now)
        pauses.append(state.next_poll_at - now)
        now = state.next_poll_at
    assert pauses == [0.25, 0.5, 1.0, 2.0, 2.0, LAST_UNREADY_POLL_S]
    recovered = on_poll(state, is_healthy=True, now=now)
    assert recovered.is_ready
    assert on_unreached(recovered, now=now).next_poll_at == now + 0.25


def test_a_request_that_cannot_connect_makes_unready_at_once() -> None:
    state = on_unreached(a_ready_state(), now=3.0)
    assert (state.readiness, state.since, state.next_poll_at) == (Readiness.UNREADY, 3.0, 3.25)


@given(st.lists(st.sampled_from(["good", "bad", "unreached"])))
def test_the_next_poll_is_never_far(events: list[str]) -> None:
    state, now = newly_seen(0.0), 0.0
    for event in events:
        now += 0.1
        match event:
            case "good" | "bad":
                state = on_poll(state, is_healthy=event == "good", now=now)
            case _:
                state = on_unreached(state, now=now)
        assert state.next_poll_at <= now + READY_POLL_S
        assert state.since <= now
