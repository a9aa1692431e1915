"""The breaker against its table: a plain model of it, driven by any events at any times."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kloros_infra.router.breaker import (
    BLAMED,
    BUSY_S,
    FAILURES_IN_A_ROW,
    FIRST_OPEN_S,
    JITTER,
    LEAST_IN_WINDOW,
    LONGEST_BUSY_S,
    LONGEST_OPEN_S,
    WINDOW_S,
    Breaker,
    State,
    jitter_of,
    on_abandoned,
    on_busy,
    on_failure,
    on_probe,
    on_success,
    passes,
    passes_at,
)
from kloros_infra.router.events import Outcome


def failed(breaker: Breaker, times: int, *, now: float, jitter: float = 0.5) -> Breaker:
    for _ in range(times):
        breaker = on_failure(breaker, now, jitter)
    return breaker


def probed(breaker: Breaker) -> Breaker:
    """Let an open breaker's time pass and send its probe."""
    return on_probe(breaker, breaker.opened_at + breaker.open_s)


def test_five_failures_in_a_row_open_it_for_five_seconds() -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW - 1, now=100)
    assert passes(breaker, 100)
    breaker = failed(breaker, 1, now=100)
    assert breaker.state is State.OPEN
    assert (passes(breaker, 104.9), passes(breaker, 105)) == (False, True)
    assert passes_at(breaker) == 105


def test_a_success_between_starts_the_row_anew() -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW - 1, now=100)
    breaker = failed(on_success(breaker, 100), FAILURES_IN_A_ROW - 1, now=100)
    assert breaker.state is State.CLOSED


def alternating(*, times: int, step_s: float) -> Breaker:
    breaker = Breaker()
    for count in range(times):
        now = 100 + count * step_s
        breaker = on_success(on_failure(breaker, now, 0.5), now)
    return breaker


def test_half_of_ten_within_ten_seconds_open_it() -> None:
    nearly = alternating(times=4, step_s=1)
    assert nearly.state is State.CLOSED
    # Failure and success ten times over: the ninth end is the fifth failure, the tenth one too many.
    assert alternating(times=6, step_s=1).state is State.OPEN


def test_failures_far_apart_never_open_it() -> None:
    assert alternating(times=50, step_s=WINDOW_S / 4).state is State.CLOSED


def test_failures_are_forgotten_once_they_left_the_window() -> None:
    breaker = on_success(on_failure(Breaker(), 100, 0.5), 100 + WINDOW_S)
    assert breaker == Breaker()


def test_a_target_that_never_fails_costs_nothing() -> None:
    breaker = Breaker()
    assert on_success(breaker, 100) is breaker
    assert on_probe(breaker, 100) is breaker
    assert on_abandoned(breaker) is breaker


def test_exactly_one_goes_through_when_it_is_half_open() -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW, now=100)
    assert on_probe(breaker, 101) is breaker
    breaker = on_probe(breaker, 105)
    assert breaker.is_probing
    assert not passes(breaker, 1000)
    assert passes_at(breaker) is None
    assert on_probe(breaker, 1000) is breaker


def test_a_probe_that_is_given_up_makes_room_for_the_next() -> None:
    breaker = on_abandoned(probed(failed(Breaker(), FAILURES_IN_A_ROW, now=100)))
    assert passes(breaker, 105)


def test_a_probe_that_succeeds_closes_and_the_next_opening_is_short_again() -> None:
    breaker = on_success(probed(failed(Breaker(), FAILURES_IN_A_ROW, now=100)), 106)
    assert breaker == Breaker()


def test_a_probe_that_fails_opens_for_twice_as_long_up_to_a_minute() -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW, now=100)
    spans = [breaker.open_s]
    for _ in range(6):
        now = breaker.opened_at + breaker.open_s
        breaker = on_failure(on_probe(breaker, now), now, 0.5)
        spans.append(breaker.open_s)
    assert spans == [5, 10, 20, 40, 60, 60, 60]


def test_what_ends_while_it_is_open_was_sent_before_and_changes_nothing() -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW, now=100)
    assert on_success(breaker, 101) is breaker
    assert on_failure(breaker, 101, 0.5) is breaker


@given(jitter=st.floats(0, 1, exclude_max=True))
def test_jitter_moves_the_opening_by_a_fifth_at_most(jitter: float) -> None:
    breaker = failed(Breaker(), FAILURES_IN_A_ROW, now=100, jitter=jitter)
    assert FIRST_OPEN_S * (1 - JITTER) <= breaker.open_s <= FIRST_OPEN_S * (1 + JITTER)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(None, BUSY_S), (7.0, 7.0), (-1.0, 0.0), (1e9, LONGEST_BUSY_S)])
def test_a_busy_target_is_left_alone_for_as_long_as_it_says(asked_s: float | None, waits_s: float) -> None:
    breaker = on_busy(Breaker(), 100, asked_s)
    assert passes_at(breaker) == 100 + waits_s
    assert passes(breaker, 100 + waits_s)
    assert passes(breaker, 99 + waits_s) is False


def test_being_busy_is_no_failure_but_a_sign_of_life() -> None:
    breaker = on_busy(probed(failed(Breaker(), FAILURES_IN_A_ROW, now=100)), 105, 3)
    assert breaker == Breaker(busy_until=108)
    assert on_busy(breaker, 105, 1).busy_until == 108


def test_a_probe_waits_until_the_target_is_not_busy_any_more() -> None:
    breaker = failed(on_busy(Breaker(), 100, 50), FAILURES_IN_A_ROW, now=100)
    assert on_probe(breaker, 120) is breaker
    assert passes_at(breaker) == 150


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (Outcome.SERVED, False),
        (Outcome.REFUSED, False),
        (Outcome.BUSY, False),
        (Outcome.LOADING, False),
        (Outcome.UNREACHED, True),
        (Outcome.SILENT, True),
        (Outcome.UNAVAILABLE, True),
        (Outcome.STALLED, True),
        (Outcome.BROKEN, True),
    ],
)
def test_only_the_targets_own_faults_count(outcome: Outcome, counts: bool) -> None:
    assert (outcome in BLAMED) is counts


@given(seed=st.integers(0, 2**64), count=st.integers(0, 2**32))
def test_jitter_depends_on_seed_and_count_alone(seed: int, count: int) -> None:
    assert jitter_of(seed, count) == jitter_of(seed, count)
    assert 0 <= jitter_of(seed, count) < 1


def test_jitter_spreads() -> None:
    tenths = {int(10 * jitter_of(7, count)) for count in range(100)}
    assert tenths == set(range(10))


@dataclass
class Model:
    """The table in plain words: every end is remembered, nothing is compressed."""

    state: State = State.CLOSED
    ends: list[tuple[int, bool]] = field(default_factory=list)
    opened_at: float = 0.0
    open_s: float = 0.0
    openings: int = 0
    busy_until: float = 0.0

    def passes(self, now: float) -> bool:
        is_time = self.state is State.CLOSED or (self.state is State.OPEN and now >= self.opened_at + self.open_s)
        return is_time and now >= self.busy_until

    def end(self, now: float, *, is_failure: bool, jitter: float) -> None:
        if self.state is State.OPEN:
            return
        if self.state is State.HALF_OPEN and not is_failure:
            self.state, self.ends, self.openings = State.CLOSED, [], 0
            return
        self.ends.append((int(now), is_failure))
        if self.state is State.HALF_OPEN or self.is_tripped(now):
            span = min(FIRST_OPEN_S * 2**self.openings, LONGEST_OPEN_S)
            self.open_s = span * (1 + JITTER * (2 * jitter - 1))
            self.state, self.ends, self.opened_at, self.openings = State.OPEN, [], now, self.openings + 1

    def is_tripped(self, now: float) -> bool:
        """Count from the first failure of the window on, as an end that fails is the first to be remembered."""
        if not self.ends[-1][1]:
            return False
        row = [failed for _, failed in self.ends][-FAILURES_IN_A_ROW:]
        if len(row) == FAILURES_IN_A_ROW and all(row):
            return True
        recent = [failed for second, failed in self.counted() if second > int(now) - WINDOW_S]
        return len(recent) >= LEAST_IN_WINDOW and 2 * sum(recent) >= len(recent)

    def counted(self) -> list[tuple[int, bool]]:
        """List the ends since trouble began: a success counts while a failure of the window before it does."""
        since: list[tuple[int, bool]] = []
        for second, failed in self.ends:
            since = [*(end for end in since if end[0] > second - WINDOW_S), (second, failed)]
            since = since if any(is_failure for _, is_failure in since) else []
        return since


class BreakerMachine(RuleBasedStateMachine):
    """Any order of sending, ending, giving up and waiting."""

    @initialize(start=st.integers(0, 50))
    def begin(self, start: int) -> None:
        self.now = start / 10
        self.breaker = Breaker()
        self.model = Model()
        self.probes = 0

    @rule(seconds=st.sampled_from((0.0, 0.1, 0.4, 1.0, 3.0, 5.0, 12.0, 70.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def send(self) -> None:
        if passes(self.breaker, self.now) and self.breaker.state is not State.CLOSED:
            assert self.probes == 0
            self.probes = 1
            self.model.state = State.HALF_OPEN
        self.breaker = on_probe(self.breaker, self.now)

    @rule(times=st.integers(1, 6), is_failure=st.booleans(), jitter=st.sampled_from((0.0, 0.5, 0.9)))
    def end(self, times: int, is_failure: bool, jitter: float) -> None:
        for _ in range(times):
            self.model.end(self.now, is_failure=is_failure, jitter=jitter)
            if is_failure:
                self.breaker = on_failure(self.breaker, self.now, jitter)
            else:
                self.breaker = on_success(self.breaker, self.now)
        self.probes = int(self.breaker.is_probing)

    @rule(retry_after_s=st.sampled_from((None, 0.5, 8.0)))
    def be_busy(self, retry_after_s: float | None) -> None:
        self.breaker = on_busy(self.breaker, self.now, retry_after_s)
        self.model.end(self.now, is_failure=False, jitter=0)
        until = self.now + (BUSY_S if retry_after_s is None else retry_after_s)
        self.model.busy_until = max(self.model.busy_until, until)
        self.probes = 0

    @rule()
    def give_up(self) -> None:
        self.breaker = on_abandoned(self.breaker)
        self.probes = 0
        if self.model.state is State.HALF_OPEN:
            self.model.state = State.OPEN

    @invariant()
    def it_obeys_the_table(self) -> None:
        assert self.breaker.state is self.model.state
        assert passes(self.breaker, self.now) == self.model.passes(self.now)

    @invariant()
    def it_says_when_it_passes(self) -> None:
        at = passes_at(self.breaker)
        assert (at is not None and self.now >= at) == passes(self.breaker, self.now)

    @invariant()
    def it_remembers_little(self) -> None:
        assert len(self.breaker.slots) <= WINDOW_S
        assert self.breaker.open_s <= LONGEST_OPEN_S * (1 + JITTER)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_two_thousand_walks_of_fifty_steps_obey_the_table() -> None:
    """Walk far more than hypothesis can in a second; a walk is replayed by its seed."""
    for seed in range(2000):
        dice = Random(seed)  # noqa: S311 - no secret, a walk to be replayed
        machine = BreakerMachine()
        machine.begin(seed % 50)
        for step in range(50):
            walk(machine, dice)
            assert machine.breaker.state is machine.model.state, (seed, step)
            machine.it_obeys_the_table()
            machine.it_says_when_it_passes()
            machine.it_remembers_little()


def walk(machine: BreakerMachine, dice: Random) -> None:
    """Take one step, failures more often than not."""
    match dice.randrange(8):
        case 0:
            machine.be_busy(dice.choice((None, 0.5, 8.0)))
        case 1:
            machine.give_up()
        case 2 | 3:
            machine.send()
        case 4 | 5:
            machine.wait(dice.choice((0.0, 0.4, 1.0, 5.0, 12.0, 70.0)))
        case _:
            machine.end(dice.randint(1, 6), dice.random() < 0.6, dice.choice((0.0, 0.5, 0.9)))
