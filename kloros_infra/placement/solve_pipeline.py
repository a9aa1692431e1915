"""Find the best cuts where all layers are on several cards, which llama.cpp prepares for a pipeline.

Its slowest card counts for all micro-batches of a prompt but one. Branch and bound over cards and cuts; what the rest
costs at least, and how slow its slowest card is at least, are known from tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from kloros_infra.placement.solve_tables import Cards, Tables

# Sums of the same seconds in another order differ by less.
_SAME = 1 - 1e-12


class _Branch(NamedTuple):
    """A run and, unless it is the last, the card that goes on; plans with it cost `bound_s` at least."""

    bound_s: float
    end: int
    next_card: int
    sum_s: float
    slowest_s: float


@dataclass
class PipelineSearch:
    """The search in one mode; `best` are cards and where their runs end, which cost `best_s`.

    `cut_s` is what plans cost at least that were not looked at when the steps were used up.
    """

    tables: Tables
    steps: int
    best_s: float
    best: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    cut_s: float = inf

    def run(self, cards: Cards) -> None:
        """Look at all plans with two and more of these cards."""
        firsts = [
            (branches[0].bound_s, number, branches)
            for number in self.tables.choices(cards)
            if (branches := self._branches(number, cards - {number}, 0, 0.0, 0.0))
        ]
        for _, number, branches in sorted(firsts, key=lambda one: one[:2]):
            self._go_on(number, cards - {number}, branches, (), ())

    def _go_on(
        self, number: int, left: Cards, branches: list[_Branch], cards: tuple[int, ...], ends: tuple[int, ...]
    ) -> None:
        """Try the branches, most promising first."""
        cards = (*cards, number)
        for branch in branches:
            if branch.bound_s >= self.best_s * _SAME:
                return
            if self.steps <= 0:
                self.cut_s = min(self.cut_s, branch.bound_s)
                return
            self.steps -= 1
            taken = (*ends, branch.end)
            if branch.next_card < 0:
                self.best_s, self.best = branch.bound_s, (cards, taken)
            else:
                rest = left - {branch.next_card}
                further = self._branches(branch.next_card, rest, branch.end, branch.sum_s, branch.slowest_s)
                self._go_on(branch.next_card, rest, further, cards, taken)

    def _branches(self, number: int, left: Cards, start: int, sum_s: float, slowest_s: float) -> list[_Branch]:
        """List what can be done from a layer on, which is 0 for the first card, most promising first."""
        tables, slots = self.tables, self.tables.space.slots
        card, overlap = tables.space.cards[number], tables.overlap
        weighed, prefill = tables.prefix(card, card)
        found = []
        if start and start >= tables.takes_from(number):
            all_s = sum_s + weighed[slots] - weighed[start]
            most_s = max(slowest_s, prefill[slots] - prefill[start])
            found.append(_Branch(all_s + overlap * most_s, slots, -1, all_s, most_s))
        last = tables.reach(number, is_first=not start)[start]
        for other in tables.choices(left):
            base_s = sum_s + tables.hop_s(card, tables.space.cards[other]) - weighed[start]
            after = tables.table(other, left - {other})
            for end in range(start + 1, last + 1):
                done_s = base_s + weighed[end]
                most_s = max(slowest_s, prefill[end] - prefill[start], after.slowest_s[end])
                bound_s = done_s + after.seconds[end] + overlap * most_s
                if bound_s < self.best_s:
                    found.append(_Branch(bound_s, end, other, done_s, max(slowest_s, prefill[end] - prefill[start])))
        return sorted(found)
