"""Giving a card up, in the order in which it has to go, with a clock that stands still but for pauses."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest

from kloros_infra.cli.gpu_release import KILL_S, OTHERS_S, STOP_S, CardHolder, GivenUp, Holders, give_up, names_of

CODE, CHAT = "llama@code-max.service", "llama@chat-max.service"
GAME = CardHolder(4711, "game.exe", "ada", 3 * 2**30)


@dataclass
class SteppedClock:
    """Time passes by pauses alone."""

    time_s: float = 100.0

    def now(self) -> float:
        return self.time_s

    def pause(self, seconds: float) -> None:
        assert seconds > 0, "a pause of nothing never ends"
        self.time_s += seconds


@dataclass
class ScriptedCard:
    """Units end at their time, or so long after they were told to; whoever is `others` holds the card up to a time."""

    clock: SteppedClock
    ends_s: dict[str, float] = field(default_factory=dict)
    stops_after_s: dict[str, float] = field(default_factory=dict)
    others_until_s: float = 0.0
    has_router: bool = True
    is_mortal: bool = True
    orders: list[tuple[str, float, tuple[str, ...]]] = field(default_factory=list)

    def is_routed(self) -> bool:
        return self.has_router

    def running(self) -> Collection[str]:
        return {unit for unit, end_s in self.ends_s.items() if self.clock.now() - 100 < end_s}

    def order_stop(self, units: Collection[str]) -> None:
        self._note("stop", units)
        for unit in units:
            self.ends_s[unit] = self.clock.now() - 100 + self.stops_after_s.get(unit, 0.0)

    def kill(self, units: Collection[str]) -> None:
        self._note("kill", units)
        if self.is_mortal:
            self.ends_s |= dict.fromkeys(units, 0.0)

    def holders(self) -> Holders:
        return Holders((GAME,)) if self.clock.now() - 100 < self.others_until_s else Holders()

    def _note(self, what: str, units: Collection[str]) -> None:
        self.orders.append((what, round(self.clock.now() - 100, 3), tuple(sorted(units))))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def given_up(clock: SteppedClock, told: list[str]) -> Callable[[ScriptedCard], GivenUp]:
    return lambda card: give_up(card, wait_s=20.0, clock=clock, on_waiting=lambda what, _: told.append(what))


def test_a_card_that_nothing_runs_on_is_free_at_once(
    clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp], told: list[str]
) -> None:
    found = given_up(ScriptedCard(clock))
    assert (found, found.is_free) == (GivenUp((), (), (), Holders(), 0.0), True)
    assert told == []


def test_what_runs_may_finish_and_is_not_stopped_then(
    clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp], told: list[str]
) -> None:
    card = ScriptedCard(clock, {CODE: 3.0, CHAT: 0.5})
    found = given_up(card)
    assert (found.finished, found.stopped, found.is_free) == ((CHAT, CODE), (), True)
    assert found.took_s == pytest.approx(3.0, abs=0.11)
    assert card.orders == []
    assert told[0] == f"Waiting for {CHAT}, {CODE} to finish"
    assert told[-1] == f"Waiting for {CODE} to finish"


def test_what_does_not_finish_in_time_is_stopped(
    clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp]
) -> None:
    card = ScriptedCard(clock, {CODE: 1000.0, CHAT: 1.0}, {CODE: 2.0})
    found = given_up(card)
    assert (found.finished, found.stopped, found.left) == ((CHAT,), (CODE,), ())
    assert card.orders == [("stop", 20.0, (CODE,))]
    assert found.took_s == pytest.approx(22.0, abs=0.11)


def test_what_does_not_stop_is_killed(clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp]) -> None:
    card = ScriptedCard(clock, {CODE: 1000.0}, {CODE: 1000.0})
    found = given_up(card)
    assert card.orders == [("stop", 20.0, (CODE,)), ("kill", 20.0 + STOP_S, (CODE,))]
    assert (found.stopped, found.left, found.is_free) == ((CODE,), (), True)


def test_what_cannot_be_ended_at_all_is_named(clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp]) -> None:
    card = ScriptedCard(clock, {CODE: 1000.0}, {CODE: 1000.0}, is_mortal=False)
    found = given_up(card)
    assert (found.left, found.is_free) == ((CODE,), False)
    assert found.took_s == pytest.approx(20.0 + STOP_S + KILL_S)


def test_without_a_router_there_are_no_requests_to_finish(
    clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp]
) -> None:
    card = ScriptedCard(clock, {CODE: 1000.0}, has_router=False)
    assert (given_up(card).stopped, card.orders) == ((CODE,), [("stop", 0.0, (CODE,))])


def test_others_are_waited_for_a_moment(
    clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp], told: list[str]
) -> None:
    found = given_up(ScriptedCard(clock, others_until_s=1.0))
    assert found.is_free
    assert found.took_s == pytest.approx(1.0, abs=0.11)
    assert told[0] == "Waiting for game.exe (process 4711)"


def test_others_who_stay_are_named(clock: SteppedClock, given_up: Callable[[ScriptedCard], GivenUp]) -> None:
    found = given_up(ScriptedCard(clock, others_until_s=1000.0))
    assert (found.is_free, found.holders) == (False, Holders((GAME,)))
    assert found.took_s == pytest.approx(OTHERS_S)


def test_a_card_of_which_nobody_can_tell_who_uses_it_does_not_count_as_free() -> None:
    assert not GivenUp((), (), (), Holders((), "nobody says so"), 0.0).is_free


def test_a_process_of_ours_is_named_by_its_unit() -> None:
    ours = CardHolder(5, "llama-server", unit=CODE)
    assert names_of((GAME, ours)) == f"game.exe (process 4711), {CODE} (process 5)"
