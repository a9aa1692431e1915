"""How the rest of a model is best placed in runs: for each first layer, last card and set of cards that are left.

Everything but a pipeline's slowest card is a sum over the layers, so that the best way to go on from a layer does not
depend on the way there (dynamic programming over sets of cards). Of cards that are alike, the first is taken first.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import inf

from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory import Role
from kloros_infra.placement.solve_space import Space
from kloros_infra.placement.stage_times import StageTimes

Cards = frozenset[int]
"""Cards that are left, by their numbers."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How cards work together: with copies of the inputs for a pipeline, and, where all have events, as one."""

    keeps_copies: bool
    overlaps: bool = False


ONE_BY_ONE = Mode(keeps_copies=False)


@dataclass(frozen=True, slots=True)
class Table:
    """For each first layer: what the rest costs at least, where its first run ends, and its slowest card's part."""

    seconds: list[float]
    ends: list[int]
    slowest_s: list[float]


@dataclass(frozen=True, slots=True)
class Onward:
    """For each layer: what going on from it with another card costs at least, which one, and the slowest card's."""

    seconds: list[float]
    cards: list[int]
    slowest_s: list[float]


@dataclass
class Tables:
    """All tables of one mode, worked out when they are asked for."""

    space: Space
    mode: Mode
    _tables: dict[tuple[int, Cards], Table] = field(default_factory=dict)
    _onward: dict[tuple[int, Cards], Onward] = field(default_factory=dict)
    _sums: dict[tuple[str, str], tuple[list[float], list[float]]] = field(default_factory=dict)
    _choices: dict[Cards, tuple[int, ...]] = field(default_factory=dict)
    _reach: dict[tuple[int, bool], list[int]] = field(default_factory=dict)
    _takes_from: dict[int, int] = field(default_factory=dict)

    @cached_property
    def times(self) -> StageTimes:
        return StageTimes(self.space.costs, self.space.cpu)

    @cached_property
    def overlap(self) -> float:
        """Weigh the part of a prompt's time that only the slowest card counts for."""
        return self.space.preference.prefill * (1 - 1 / self.times.micro_batches) if self.mode.overlaps else 0.0

    def prefix(self, device: Device, first: Device) -> tuple[list[float], list[float]]:
        """Add up the layers before each: weighed seconds, and seconds of a prompt.

        In a pipeline only one micro-batch goes through all cards by itself.
        """
        key = (device.name, first.name if device.is_cpu else "")
        if key not in self._sums:
            times, space = StageTimes(self.space.costs, first), self.space
            prefill = [
                times.prefill_core_s(layer, device) + times.prefill_experts_s(layer, device)
                for layer in space.costs.layers
            ]
            weighed = (
                space.core_s(times, layer, device) + space.experts_s(times, layer, device) - self.overlap * prefill_s
                for layer, prefill_s in zip(space.costs.layers, prefill, strict=True)
            )
            self._sums[key] = (list(accumulate(weighed, initial=0.0)), list(accumulate(prefill, initial=0.0)))
        return self._sums[key]

    def hop_s(self, one: Device, other: Device) -> float:
        """Weigh handing work on, of which a pipeline waits for one micro-batch's only."""
        prefill_s = self.times.prefill_hop_s(one, other)
        if self.mode.overlaps:
            prefill_s /= self.times.micro_batches
        return self.space.preference.seconds(prefill_s, self.times.decode_hop_s(one, other))

    @cached_property
    def _kinds(self) -> tuple[int, ...]:
        """Number the kinds of the cards."""
        kinds = [card.kind for card in self.space.cards]
        return tuple(map(kinds.index, kinds))

    def choices(self, cards: Cards) -> tuple[int, ...]:
        """List the cards to go on with: the first of those that are alike."""
        if cards not in self._choices:
            firsts: dict[int, int] = {}
            for number in sorted(cards):
                firsts.setdefault(self._kinds[number], number)
            self._choices[cards] = tuple(firsts.values())
        return self._choices[cards]

    def reach(self, number: int, *, is_first: bool = False) -> list[int]:
        """Say, for each first layer, which layer a run that others follow ends before at the latest."""
        if (number, is_first) not in self._reach:
            role = Role(is_first=is_first, holds_layers=True, holds_head=False, is_pipelined=self.mode.keeps_copies)
            # What follows has the head at least.
            self._reach[number, is_first] = [
                min(self.last_end(number, start, role), self.space.slots - 1) for start in range(self.space.slots)
            ]
        return self._reach[number, is_first]

    def last_end(self, number: int, start: int, role: Role) -> int:
        """Say which layer a run from `start` ends before at the latest."""
        card, held = self.space.cards[number], self.space.costs.held_before
        if card.usable_bytes is None:
            return self.space.slots
        return bisect_right(held, held[start] + card.usable_bytes - self.space.role_bytes(role)) - 1

    def takes_from(self, number: int) -> int:
        """Say from which layer on a card, which is not the first, has room for all."""
        if number not in self._takes_from:
            self._takes_from[number] = next(
                (start for start in range(self.space.slots) if self.takes_rest(number, start)), self.space.slots
            )
        return self._takes_from[number]

    def takes_rest(self, number: int, start: int, *, is_first: bool = False, lent_bytes: int = 0) -> bool:
        """Say whether a card has room for all from `start` on.

        The first card computes the CPU's layers for prompts, also where it holds the head alone.
        """
        has_layers = start < self.space.slots - 1 or lent_bytes > 0
        # With the last layer alone there is less to do than with any other (`memory_compute`).
        alone = (start,) if start == self.space.slots - 2 and not lent_bytes else None
        role = Role(is_first, has_layers, True, self.mode.keeps_copies, lent_bytes, alone, alone, is_last=True)
        return self.last_end(number, start, role) >= self.space.slots

    def table(self, number: int, left: Cards) -> Table:
        """Say how to finish with a card, which is not the first, and with those that are left after it."""
        if (number, left) not in self._tables:
            self._tables[number, left] = self._worked_out(number, left)
        return self._tables[number, left]

    def _worked_out(self, number: int, left: Cards) -> Table:
        card, slots = self.space.cards[number], self.space.slots
        weighed, prefill = self.prefix(card, card)
        table = Table([inf] * slots, [slots] * slots, [inf] * slots)
        for start in range(self.takes_from(number), slots):
            table.seconds[start] = weighed[slots] - weighed[start]
            table.slowest_s[start] = prefill[slots] - prefill[start]
        if left:
            self._hand_on(table, number, self.onward(number, left))
        return table

    def _hand_on(self, table: Table, number: int, onward: Onward) -> None:
        """Let others go on where that is better.

        The later a run ends the more it takes itself and the less the slowest of the others: the best is where both
        meet, and with a later start that is not earlier.
        """
        card, reach = self.space.cards[number], self.reach(number)
        weighed, prefill = self.prefix(card, card)
        sums = [done + rest for done, rest in zip(weighed, onward.seconds, strict=False)]
        meet = 0
        for start, last in enumerate(reach):
            if last <= start:
                continue
            least = min(sums[start + 1 : last + 1])
            if least - weighed[start] < table.seconds[start]:
                table.seconds[start] = least - weighed[start]
                table.ends[start] = sums.index(least, start + 1)
            meet = max(meet, start + 1)
            while meet <= last and prefill[meet] - prefill[start] < onward.slowest_s[meet]:
                meet += 1
            before = onward.slowest_s[meet - 1] if meet > start + 1 else inf
            after = prefill[meet] - prefill[start] if meet <= last else inf
            table.slowest_s[start] = min(table.slowest_s[start], before, after)

    def onward(self, number: int, left: Cards) -> Onward:
        """Say how to go on after a card's run with those that are left."""
        if (number, left) not in self._onward:
            self._onward[number, left] = self._gone_on(number, left)
        return self._onward[number, left]

    def _gone_on(self, number: int, left: Cards) -> Onward:
        slots = self.space.slots
        onward = Onward([inf] * slots, [-1] * slots, [inf] * slots)
        for other in self.choices(left):
            hop_s = self.hop_s(self.space.cards[number], self.space.cards[other])
            table = self.table(other, left - {other})
            for end, seconds in enumerate(table.seconds):
                if hop_s + seconds < onward.seconds[end]:
                    onward.seconds[end], onward.cards[end] = hop_s + seconds, other
            onward.slowest_s[:] = map(min, onward.slowest_s, table.slowest_s)
        # With fewer layers left no card is slower; that is made sure of, as all bounds rely on it.
        onward.slowest_s[:] = accumulate(onward.slowest_s, min)
        return onward

    def followed(self, number: int, left: Cards, end: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Read how the best plan goes on where a card's run ends: the next cards, and where their runs end."""
        cards, ends = [], []
        while end < self.space.slots:
            number = self.onward(number, left).cards[end]
            left -= {number}
            end = self.table(number, left).ends[end]
            cards.append(number)
            ends.append(end)
        return tuple(cards), tuple(ends)


@dataclass(frozen=True)
class Least:
    """What the layers from one on cost at least on cards that may hold them in any pieces, each at its cheapest."""

    tables: Tables

    @cached_property
    def _rates(self) -> list[tuple[float, float]]:
        """Give the least seconds for a byte of each card, and the bytes it has room for."""
        space, held = self.tables.space, self.tables.space.costs.held_before
        found = []
        for card in space.cards:
            weighed, _ = self.tables.prefix(card, card)
            layers = range(space.slots - 1)
            rate = min((weighed[n + 1] - weighed[n]) / max(1, held[n + 1] - held[n]) for n in layers)
            found.append((rate, inf if card.usable_bytes is None else float(card.usable_bytes)))
        return sorted(found)

    @cached_property
    def _head_s(self) -> float:
        sums = [self.tables.prefix(card, card)[0] for card in self.tables.space.cards]
        return min(weighed[-1] - weighed[-2] for weighed in sums)

    def seconds(self, start: int) -> float:
        """Fill the cheapest card first; without end where all are full before."""
        held = self.tables.space.costs.held_before
        left, seconds = float(held[-2] - held[start]), self._head_s
        for rate, room in self._rates:
            seconds += rate * min(left, room)
            left -= min(left, room)
        return inf if left > 0 else seconds
