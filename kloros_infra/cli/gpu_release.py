"""Give a card up: nothing of ours starts on it any more, what runs finishes or is stopped, and who is left is named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

POLL_S = 0.1
STOP_S = 5.0
"""How long a process of ours may take to end once it was told to; then it is killed. It has nothing to write."""
KILL_S = 5.0
OTHERS_S = 2.0
"""How long others are waited for: what has just ended, or only looked at the card, is gone by then."""


@dataclass(frozen=True, slots=True)
class CardHolder:
    """A process that uses a card: it has memory there, or the device file open.

    `user` is empty where that is not known, `held_bytes` None; `unit` names the service of ours that it belongs to.
    """

    pid: int
    name: str
    user: str = ""
    held_bytes: int | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Holders:
    """Who uses a card; `unknown` says why that cannot be told, or not of all processes."""

    found: tuple[CardHolder, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What became of it: the units that finished by themselves, and those that were stopped; who has the card still.

    `left` are units of ours that could not be stopped.
    """

    finished: tuple[str, ...]
    stopped: tuple[str, ...]
    left: tuple[str, ...]
    holders: Holders
    took_s: float

    @property
    def is_free(self) -> bool:
        return not self.left and not self.holders.found and not self.holders.unknown


class Card(Protocol):
    """The card that is given up, and our units on it."""

    def is_routed(self) -> bool:
        """Say whether a router runs, which lets instances finish what they have and stops them.

        It knows by then that the card is locked out.
        """
        ...

    def running(self) -> Collection[str]:
        """Name our units on the card that are not down."""
        ...

    def order_stop(self, units: Collection[str]) -> None:
        """Have units stopped, and wait for none of them."""
        ...

    def kill(self, units: Collection[str]) -> None:
        """End the processes of units that are being stopped."""
        ...

    def holders(self) -> Holders: ...


class Clock(Protocol):
    """Time, as waiting needs it."""

    def now(self) -> float: ...
    def pause(self, seconds: float) -> None: ...


Waiting = Callable[[str, float], None]
"""Shows what is waited for, and since when."""


def give_up(card: Card, *, wait_s: float, clock: Clock, on_waiting: Waiting) -> GivenUp:
    """Wait until our units on a card are done, for so long at most; stop what is left; say who else has the card.

    The card is locked out already. Requests come through the router alone: where there is none, nothing is to finish.
    """
    began = clock.now()
    pause = _Pause(clock, on_waiting, began)
    # In this order: from here on the router starts nothing on the card, and what it has begun is running.
    may_finish_s = wait_s if card.is_routed() else 0.0
    before = card.running()
    left = pause.until_gone(card.running, may_finish_s, "to finish")
    told = tuple(sorted(left))
    if left:
        card.order_stop(told)
        left = pause.until_gone(card.running, STOP_S, "to stop")
    if left:
        card.kill(left)
        left = pause.until_gone(card.running, KILL_S, "to end")
    holders = pause.until_free(card.holders, OTHERS_S)
    finished = tuple(sorted(set(before) - set(told)))
    return GivenUp(finished, told, tuple(sorted(left)), holders, clock.now() - began)


@dataclass(frozen=True, slots=True)
class _Pause:
    """Asks again and again until something is over or the time is."""

    clock: Clock
    on_waiting: Waiting
    began: float

    def until_gone(self, running: Callable[[], Collection[str]], wait_s: float, what: str) -> Collection[str]:
        """Give what still runs at the end."""
        deadline = self.clock.now() + wait_s
        while (left := running()) and self.clock.now() < deadline:
            self._wait(f"Waiting for {', '.join(sorted(left))} {what}", deadline)
        return left

    def until_free(self, holders: Callable[[], Holders], wait_s: float) -> Holders:
        """Give who has the card at the end."""
        deadline = self.clock.now() + wait_s
        while (found := holders()).found and self.clock.now() < deadline:
            self._wait(f"Waiting for {names_of(found.found)}", deadline)
        return found

    def _wait(self, what: str, deadline: float) -> None:
        self.on_waiting(what, self.clock.now() - self.began)
        self.clock.pause(min(POLL_S, max(0.0, deadline - self.clock.now())))


def names_of(holders: Sequence[CardHolder]) -> str:
    """Name processes in one line."""
    return ", ".join(f"{one.unit or one.name} (process {one.pid})" for one in holders)
