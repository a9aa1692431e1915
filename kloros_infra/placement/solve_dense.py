"""Find the best plan in which each device has one run of whole layers: exact, by all orders of cards and all cuts.

The first layers may stay with the CPU. Everything but a pipeline's slowest card is a sum over the layers, so the best
way to finish from a layer on is worked out once for each sequence of cards (dynamic programming); a pipeline's slowest
card is found by branch and bound over the same table.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise, permutations

from kloros_infra.ir.catalog import Preference
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import LayerCosts, ModelCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory import Role, compute_bytes, lent_weights_bytes
from kloros_infra.placement.speed import Assignment, in_runs
from kloros_infra.placement.stage_times import StageTimes, can_pipeline


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to search: so many orders of cards, and so many steps in each; the same on every machine."""

    orders: int = 400
    steps: int = 200_000


@dataclass(frozen=True)
class Space:
    """What is to be placed on what; `beside_bytes` go to the head's device. The CPU is the last device."""

    costs: ModelCosts
    devices: tuple[Device, ...]
    preference: Preference
    beside_bytes: int = 0
    limits: Limits = Limits()

    @property
    def cards(self) -> tuple[Device, ...]:
        return self.devices[:-1]

    @property
    def cpu(self) -> Device:
        return self.devices[-1]

    @cached_property
    def by_name(self) -> dict[str, Device]:
        return {device.name: device for device in self.devices}

    @cached_property
    def _roles(self) -> dict[Role, int]:
        return {}

    def role_bytes(self, role: Role) -> int:
        """Say what a device's role takes beside its layers."""
        if role not in self._roles:
            beside = self.beside_bytes if role.holds_head else 0
            self._roles[role] = compute_bytes(self.costs.header, self.costs.work, role) + beside
        return self._roles[role]


@dataclass(frozen=True, slots=True)
class Found:
    """A plan, the weighed seconds that a token costs, and how much less a better one could cost, as a share."""

    assignment: Assignment
    seconds: float
    gap: float = 0.0


def orders(cards: tuple[Device, ...]) -> Iterator[tuple[Device, ...]]:
    """List the sequences of cards, those of fewer cards first; of sequences of like cards the first."""
    seen: set[tuple[tuple[object, ...], ...]] = set()
    for count in range(1, len(cards) + 1):
        for order in permutations(cards, count):
            kinds = tuple(card.kind for card in order)
            if kinds not in seen:
                seen.add(kinds)
                yield order


def solve_runs(space: Space) -> Found | None:
    """Find the best plan of runs; None where the model does not fit, the CPU's memory included."""
    search = _Search(space)
    sequences = tuple(orders(space.cards))
    for order in sequences[: space.limits.orders]:
        search.one_by_one(order)
        if len(order) > 1:
            search.on_cards(order)
    search.on_the_cpu()
    if search.best is None:
        return None
    cards, counts = search.best
    names = [name for name, count in zip((CPU, *cards), counts, strict=True) for _ in range(count)]
    gap = 0.0 if search.is_complete and len(sequences) <= space.limits.orders else search.gap()
    return Found(in_runs(cards, tuple(names)), search.best_s, gap)


@dataclass(frozen=True, slots=True)
class _Mode:
    """How cards work together: with copies of the inputs for a pipeline, and, where all have events, as one."""

    keeps_copies: bool
    overlaps: bool = False


_ONE_BY_ONE = _Mode(keeps_copies=False)


@dataclass(slots=True)
class _Table:
    """For each first layer, what the rest costs at least, and where the first run of that best plan ends."""

    seconds: list[float]
    ends: list[int]
    slowest_s: list[float]


@dataclass
class _Search:
    space: Space
    best: tuple[tuple[str, ...], tuple[int, ...]] | None = None
    best_s: float = math.inf
    is_complete: bool = True
    _tables: dict[tuple[tuple[str, ...], _Mode], _Table] = field(default_factory=dict)
    _sums: dict[tuple[str, str, _Mode], tuple[list[float], list[float]]] = field(default_factory=dict)
    _lent: dict[int, int] = field(default_factory=dict)

    @cached_property
    def slots(self) -> int:
        return len(self.space.costs.layers)

    def offer(self, seconds: float, cards: tuple[str, ...], counts: tuple[int, ...]) -> None:
        if seconds < self.best_s * (1 - 1e-12):
            self.best_s, self.best = seconds, (cards, counts)

    def gap(self) -> float:
        """Compare with each layer on the fastest device, as if all had room for it."""
        first = max(self.space.cards, key=lambda card: card.flops_per_s)
        times = StageTimes(self.space.costs, first)
        least = sum(
            min(self._seconds(times, layer, device)[0] for device in self.space.devices)
            for layer in self.space.costs.layers
        )
        return max(0.0, 1 - least / self.best_s)

    def _seconds(self, times: StageTimes, layer: LayerCosts, device: Device) -> tuple[float, float]:
        """Weigh a layer with its experts; the second is its part of a prompt."""
        decode_s = times.decode_core_s(layer, device) + times.decode_experts_s(layer, device)
        prefill_s = times.prefill_core_s(layer, device) + times.prefill_experts_s(layer, device)
        return self.space.preference.seconds(prefill_s, decode_s), prefill_s

    def prefix(self, device: Device, first: Device, mode: _Mode) -> tuple[list[float], list[float]]:
        """Add up the layers before each: weighed seconds, and seconds of a prompt.

        In a pipeline only one micro-batch goes through all cards by itself.
        """
        key = (device.name, first.name if device.is_cpu else "", mode)
        if key not in self._sums:
            times = StageTimes(self.space.costs, first)
            each = [self._seconds(times, layer, device) for layer in self.space.costs.layers]
            waits = self.overlap(times, mode)
            weighed = accumulate((all_s - waits * prefill_s for all_s, prefill_s in each), initial=0.0)
            prefill = accumulate((prefill_s for _, prefill_s in each), initial=0.0)
            self._sums[key] = (list(weighed), list(prefill))
        return self._sums[key]

    def overlap(self, times: StageTimes, mode: _Mode) -> float:
        """Weigh the part of a prompt's time that only the slowest card counts for."""
        if not mode.overlaps:
            return 0.0
        return self.space.preference.prefill * (1 - 1 / times.micro_batches)

    def hop_s(self, one: Device, other: Device, mode: _Mode) -> float:
        times = StageTimes(self.space.costs, self.space.cpu)
        prefill_s = times.prefill_hop_s(one, other)
        if mode.overlaps:
            prefill_s /= times.micro_batches
        return self.space.preference.seconds(prefill_s, times.decode_hop_s(one, other))

    def _room(self, card: Device, start: int, role: Role) -> int:
        """Say which layer a run from `start` ends before at the latest."""
        held = self.space.costs.held_before
        if card.usable_bytes is None:
            return self.slots
        return bisect_right(held, held[start] + card.usable_bytes - self.space.role_bytes(role)) - 1

    def ends(self, card: Device, start: int, role: Role) -> range:
        """List where a run from `start` can end; the last one takes all, any other leaves some."""
        # The first card computes the CPU's layers for prompts, also where it holds the head alone.
        has_layers = start < self.slots - 1 or role.lent_bytes > 0
        room = self._room(card, start, replace(role, holds_layers=has_layers, is_last=role.holds_head))
        if role.holds_head:
            return range(self.slots, self.slots + 1) if room >= self.slots else range(0)
        return range(start + 1, min(room, self.slots - 1) + 1)

    def table(self, rest: tuple[Device, ...], mode: _Mode) -> _Table:
        """Work out how to finish with these cards, none of which is the first, from each layer on."""
        key = (tuple(card.name for card in rest), mode)
        if key not in self._tables:
            self._tables[key] = self._worked_out(rest, mode)
        return self._tables[key]

    def _worked_out(self, rest: tuple[Device, ...], mode: _Mode) -> _Table:
        card, others = rest[0], rest[1:]
        weighed, prefill = self.prefix(card, card, mode)
        after = self.table(others, mode) if others else None
        hop_s = self.hop_s(card, others[0], mode) if others else 0.0
        table = _Table([math.inf] * self.slots, [0] * self.slots, [math.inf] * self.slots)
        role = Role(is_first=False, holds_layers=True, holds_head=after is None, is_pipelined=mode.keeps_copies)
        for start in range(self.slots):
            for end in self.ends(card, start, role):
                seconds = weighed[end] - weighed[start]
                slowest_s = prefill[end] - prefill[start]
                if after is not None:
                    seconds += hop_s + after.seconds[end]
                    slowest_s = max(slowest_s, after.slowest_s[end])
                if seconds < table.seconds[start]:
                    table.seconds[start], table.ends[start] = seconds, end
                table.slowest_s[start] = min(table.slowest_s[start], slowest_s)
        return table

    def one_by_one(self, order: tuple[Device, ...]) -> None:
        """Find the best cuts for one card, or with the CPU: for each number of its layers."""
        first, others = order[0], order[1:]
        weighed, _ = self.prefix(first, first, _ONE_BY_ONE)
        on_cpu, _ = self.prefix(self.space.cpu, first, _ONE_BY_ONE)
        after = self.table(others, _ONE_BY_ONE) if others else None
        to_first = self.hop_s(self.space.cpu, first, _ONE_BY_ONE)
        hop_s = self.hop_s(first, others[0], _ONE_BY_ONE) if others else 0.0
        for start in range(1 if others else 0, self.slots):
            base_s = on_cpu[start] + (to_first if start else 0.0)
            if base_s >= self.best_s or not self._cpu_holds(start) or (start and not self._lends_to(first)):
                break
            for end in self._first_ends(first, start, is_last=after is None):
                seconds = base_s + weighed[end] - weighed[start]
                if after is not None:
                    seconds += hop_s + after.seconds[end]
                if seconds < self.best_s:
                    self.offer(seconds, *self._followed(order, start, end))

    def _first_ends(self, first: Device, start: int, *, is_last: bool) -> range:
        lent = self._lent_bytes(start)
        role = Role(is_first=True, holds_layers=True, holds_head=is_last, is_pipelined=False, lent_bytes=lent)
        return self.ends(first, start, role)

    def _lends_to(self, first: Device) -> bool:
        """Say whether the first card is the one that works for the CPU: not another host's while there is one here."""
        return not first.is_remote or all(card.is_remote for card in self.space.cards)

    def _cpu_holds(self, layers: int) -> bool:
        return layers == 0 or (
            self.space.cpu.takes_layers and self.space.cpu.holds(self.space.costs.held_before[layers])
        )

    def _lent_bytes(self, layers: int) -> int:
        if layers not in self._lent:
            names = (CPU,) * layers + ("card",) * (self.slots - layers)
            self._lent[layers] = lent_weights_bytes(self.space.costs.header, "card", names)
        return self._lent[layers]

    def _followed(self, order: tuple[Device, ...], start: int, end: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Read from the tables how the best plan goes on."""
        cuts = [0, start, end]
        for position in range(1, len(order)):
            cuts.append(self.table(order[position:], _ONE_BY_ONE).ends[cuts[-1]])
        counts = tuple(later - earlier for earlier, later in pairwise(cuts))
        return tuple(card.name for card in order), counts

    def on_cards(self, order: tuple[Device, ...]) -> None:
        """Find the best cuts where all layers are on several cards, which llama.cpp then prepares for a pipeline."""
        overlaps = can_pipeline(tuple(card.name for card in order), self.space.by_name)
        steps = _Pipeline(self, order, _Mode(keeps_copies=True, overlaps=overlaps))
        steps.go_on(0, 0, 0.0, 0.0, (0,))
        self.is_complete = self.is_complete and steps.steps <= self.space.limits.steps

    def on_the_cpu(self) -> None:
        """Consider no card at all."""
        cpu = self.space.cpu
        weighed, _ = self.prefix(cpu, cpu, _ONE_BY_ONE)
        if self._cpu_holds(self.slots):
            self.offer(weighed[-1], (), (self.slots,))


@dataclass
class _Pipeline:
    """Branch and bound over the cuts of one order."""

    search: _Search
    order: tuple[Device, ...]
    mode: _Mode
    steps: int = 0

    def go_on(self, position: int, start: int, seconds: float, slowest_s: float, counts: tuple[int, ...]) -> None:
        """Try each end of the next card's run, most promising first."""
        for bound_s, end, sum_s, most_s in self._branches(position, start, seconds, slowest_s):
            self.steps += 1
            if bound_s >= self.search.best_s or self.steps > self.search.space.limits.steps:
                return
            taken = (*counts, end - start)
            if end == self.search.slots:
                self.search.offer(bound_s, tuple(card.name for card in self.order), taken)
            else:
                self.go_on(position + 1, end, sum_s, most_s, taken)

    def _branches(
        self, position: int, start: int, seconds: float, slowest_s: float
    ) -> list[tuple[float, int, float, float]]:
        search, card, others = self.search, self.order[position], self.order[position + 1 :]
        weighed, prefill = search.prefix(card, card, self.mode)
        after = search.table(others, self.mode) if others else None
        hop_s = search.hop_s(card, others[0], self.mode) if others else 0.0
        overlap = search.overlap(StageTimes(search.space.costs, card), self.mode)
        found = []
        role = Role(is_first=position == 0, holds_layers=True, holds_head=after is None, is_pipelined=True)
        for end in search.ends(card, start, role):
            sum_s = seconds + weighed[end] - weighed[start] + hop_s
            most_s = max(slowest_s, prefill[end] - prefill[start])
            rest_s, rest_most_s = (after.seconds[end], after.slowest_s[end]) if after else (0.0, 0.0)
            bound_s = sum_s + rest_s + overlap * max(most_s, rest_most_s)
            if bound_s < math.inf:
                found.append((bound_s, end, sum_s, most_s))
        return sorted(found)
