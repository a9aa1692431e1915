"""Find the best plan in which each device has one run of whole layers: exact, over all orders of cards and all cuts.

The first layers may stay with the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import inf

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory import Role, lent_weights_bytes
from kloros_infra.placement.solve_pipeline import PipelineSearch
from kloros_infra.placement.solve_space import Found, Space
from kloros_infra.placement.solve_tables import ONE_BY_ONE, Cards, Least, Mode, Tables
from kloros_infra.placement.speed import in_runs

_SAME = 1 - 1e-12


def solve_runs(space: Space, cutoff_s: float = inf) -> Found | None:
    """Find the best plan of runs; None where the model does not fit, the CPU's memory included, or none costs less."""
    search = _Search(space, cutoff_s)
    search.alone()
    search.as_pipeline()
    search.after_the_cpu()
    search.on_the_cpu()
    if search.best is None:
        return None
    cards, counts = search.best
    names = [name for name, count in zip((CPU, *cards), counts, strict=True) for _ in range(count)]
    gap = max(0.0, 1 - search.cut_s / search.best_s)
    return Found(in_runs(cards, tuple(names)), search.best_s, gap)


@dataclass
class _Search:
    """`best` are cards and how many layers the CPU and they have; `cut_s` is what was not looked at costs at least."""

    space: Space
    best_s: float
    best: tuple[tuple[str, ...], tuple[int, ...]] | None = None
    cut_s: float = inf
    _lent: dict[int, int] = field(default_factory=dict)

    @cached_property
    def _singly(self) -> Tables:
        return Tables(self.space, ONE_BY_ONE)

    @cached_property
    def _all(self) -> Cards:
        return frozenset(range(len(self.space.cards)))

    def _offer(self, seconds: float, numbers: tuple[int, ...], cuts: tuple[int, ...]) -> None:
        """Take a plan that is better: `cuts` are where each card begins, and the end."""
        if seconds < self.best_s * _SAME:
            counts = tuple(later - earlier for earlier, later in pairwise((0, *cuts)))
            self.best_s, self.best = seconds, (tuple(self.space.cards[number].name for number in numbers), counts)

    def alone(self) -> None:
        """Find the best plan on one card."""
        for number in self._singly.choices(self._all):
            if self._singly.takes_rest(number, 0, is_first=True):
                weighed, _ = self._singly.prefix(self.space.cards[number], self.space.cards[number])
                self._offer(weighed[-1], (number,), (0, self.space.slots))

    def after_the_cpu(self) -> None:
        """Find the best plan on any cards with layers of the CPU before them."""
        least = Least(self._singly)
        for number in self._singly.choices(self._all):
            if self._lends_to(self.space.cards[number]):
                self._after_the_cpu(number, least)

    def _after_the_cpu(self, number: int, least: Least) -> None:
        card = self.space.cards[number]
        on_cpu, _ = self._singly.prefix(self.space.cpu, card)
        to_first = self._singly.hop_s(self.space.cpu, card)
        for start in range(1, self.space.slots):
            base_s = on_cpu[start] + to_first
            if base_s >= self.best_s or not self._cpu_holds(start):
                return
            if base_s + least.seconds(start) < self.best_s:
                self._on_first(number, start, base_s)

    def _on_first(self, number: int, start: int, base_s: float) -> None:
        """Go on with a card from the first layer that is not the CPU's."""
        tables, left, lent = self._singly, self._all - {number}, self._lent_bytes(start)
        card = self.space.cards[number]
        weighed, _ = tables.prefix(card, card)
        if tables.takes_rest(number, start, is_first=True, lent_bytes=lent):
            self._offer(base_s + weighed[-1] - weighed[start], (number,), (start, self.space.slots))
        role = Role(is_first=True, holds_layers=True, holds_head=False, is_pipelined=False, lent_bytes=lent)
        last = min(tables.last_end(number, start, role), self.space.slots - 1)
        rest = tables.onward(number, left).seconds
        for end in range(start + 1, last + 1):
            seconds = base_s + weighed[end] - weighed[start] + rest[end]
            if seconds < self.best_s * _SAME:
                others, ends = tables.followed(number, left, end)
                self._offer(seconds, (number, *others), (start, end, *ends))

    def _lends_to(self, first: Device) -> bool:
        """Say whether the first card is the one that works for the CPU: not another host's while there is one here."""
        return not first.is_remote or all(card.is_remote for card in self.space.cards)

    def _cpu_holds(self, layers: int) -> bool:
        return self.space.cpu.takes_layers and self.space.cpu.holds(self.space.costs.held_before[layers])

    def _lent_bytes(self, layers: int) -> int:
        if layers not in self._lent:
            names = (CPU,) * layers + ("card",) * (self.space.slots - layers)
            self._lent[layers] = lent_weights_bytes(self.space.costs.header, "card", names)
        return self._lent[layers]

    def as_pipeline(self) -> None:
        """Find the best plan on several cards: those that work side by side, and any where some do not."""
        side_by_side = frozenset(number for number in self._all if self.space.cards[number].can_pipeline)
        self._on_cards(side_by_side, overlaps=True)
        if side_by_side != self._all:
            self._on_cards(self._all, overlaps=False)

    def _on_cards(self, numbers: Cards, *, overlaps: bool) -> None:
        tables = Tables(self.space, Mode(keeps_copies=True, overlaps=overlaps))
        search = PipelineSearch(tables, self.space.limits.steps, self.best_s)
        search.run(numbers)
        self.cut_s = min(self.cut_s, search.cut_s)
        if search.best is not None:
            cards, ends = search.best
            self._offer(search.best_s, cards, (0, *ends))

    def on_the_cpu(self) -> None:
        """Consider no card at all."""
        weighed, _ = self._singly.prefix(self.space.cpu, self.space.cpu)
        if self._cpu_holds(self.space.slots):
            self._offer(weighed[-1], (), (self.space.slots,))
