"""What a fault is, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.asking import Tally
from tests.faults.site import Site


@dataclass(slots=True)
class Findings:
    """What was seen, and what of it is not as it is to be."""

    figures: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    def note(self, text: object) -> None:
        """Keep a figure."""
        self.figures.append(str(text))

    def check(self, is_so: bool, miss: str) -> None:
        """Keep what is not so."""
        if not is_so:
            self.misses.append(miss)

    def account(self, tally: Tally) -> None:
        """Keep how requests ended: none may end without an answer and without a word."""
        self.note(tally)
        self.check(tally.lost == 0, f"{tally.lost} requests were lost without a word")


Scenario = Callable[[Site, Findings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the table: what is done, and what is to come of it."""

    row: str
    """Its number in the table of faults, with a letter where a row has several."""
    title: str
    expected: str
    scenario: Scenario
    is_quick: bool = False
    """Whether it belongs to the tests that always run."""
