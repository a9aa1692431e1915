"""How many layers each card gets, whatever the order of the cards: one program for all orders that begin with a card.

It knows kinds of layers by their number only, takes hops for the shortest there are, and lets each card be followed by
whichever saves most: no order costs less than it says. What it finds tells which order to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import inf

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import LayerCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import Program
from kloros_infra.placement.memory import Role
from kloros_infra.placement.solve_formulation import MIB, MS, Term, alike_experts, lent_mib
from kloros_infra.placement.solve_space import Space
from kloros_infra.placement.stage_times import StageTimes

Kind = tuple[float, ...]

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Counted:
    """An order, and where each stage but the last ends, the CPU's first; no plan costs less than `least_s`."""

    order: tuple[Device, ...] | None
    cuts: tuple[int, ...]
    least_s: float


@dataclass(frozen=True)
class Counts:
    """The program of all orders that begin with a card, and end with one where that is said."""

    space: Space
    first: Device
    last: str | None = None

    @cached_property
    def layers(self) -> tuple[LayerCosts, ...]:
        return self.space.costs.layers[:-1]

    @cached_property
    def head(self) -> LayerCosts:
        return self.space.costs.layers[-1]

    @cached_property
    def times(self) -> StageTimes:
        return StageTimes(self.space.costs, self.first)

    @cached_property
    def others(self) -> tuple[Device, ...]:
        return tuple(card for card in self.space.cards if card is not self.first)

    @cached_property
    def kinds(self) -> dict[LayerCosts, int]:
        """Count the layers that are alike."""
        counts: dict[LayerCosts, int] = {}
        for layer in self.layers:
            counts[layer] = counts.get(layer, 0) + 1
        return counts

    @cached_property
    def classes(self) -> dict[Kind, list[LayerCosts]]:
        """Group the kinds whose experts are alike."""
        classes: dict[Kind, list[LayerCosts]] = {}
        for layer in self.kinds:
            if layer.has_experts:
                classes.setdefault(alike_experts(layer), []).append(layer)
        return classes

    @cached_property
    def program(self) -> Program:
        program = Program()
        self._place_cores(program)
        self._mix_kinds(program)
        self._place_experts(program)
        self._place_head(program)
        self._notice_hops(program)
        self._notice_lending(program)
        self._keep_within_memory(program)
        return program

    # Variables, numbered when they are made: `cores[layer kind, device]`, `experts[class, core's device, device]`,
    # `head[card]` and `used[card]`; `follows[card, other]`: one hop between two cards is saved.

    @cached_property
    def cores(self) -> dict[tuple[LayerCosts, str], int]:
        return {}

    @cached_property
    def experts(self) -> dict[tuple[Kind, str, str], int]:
        return {}

    @cached_property
    def head_on(self) -> dict[str, int]:
        return {}

    @cached_property
    def used(self) -> dict[str, int]:
        return {}

    @cached_property
    def follows(self) -> dict[tuple[str, str], int]:
        return {}

    @cached_property
    def lends(self) -> list[int]:
        return []

    def _place_cores(self, program: Program) -> None:
        for layer, count in self.kinds.items():
            for device in self.space.devices:
                cost = self.space.core_s(self.times, layer, device) * MS
                upper = float(count if device.takes_layers else 0)
                self.cores[layer, device.name] = program.variable(cost=cost, upper=upper)
            program.row(
                [(self.cores[layer, device.name], 1.0) for device in self.space.devices], lower=count, upper=count
            )

    def _mix_kinds(self, program: Program) -> None:
        """A run of layers has about as many of each kind as all have, as kinds take turns."""
        for layer, count in self.kinds.items():
            share, most = count / len(self.layers), unevenness(self.layers, layer)
            for device in self.space.devices:
                terms = [(self.cores[kind, device.name], (kind == layer) - share) for kind in self.kinds]
                program.row(terms, lower=-most, upper=most)

    def _place_experts(self, program: Program) -> None:
        for kind, members in self.classes.items():
            count = sum(self.kinds[layer] for layer in members)
            for core in self.space.devices:
                homes = (core,) if core.is_cpu else self.space.devices
                for home in homes:
                    cost = self.space.experts_s(self.times, members[0], home) * MS
                    cost += 0.0 if home is core else 2 * self._hop_ms(core, home)
                    upper = float(count if home.takes_layers else 0)
                    self.experts[kind, core.name, home.name] = program.variable(cost=cost, upper=upper)
                given = [(self.experts[kind, core.name, home.name], 1.0) for home in homes]
                program.row(
                    [*given, *((self.cores[layer, core.name], -1.0) for layer in members)], lower=0.0, upper=0.0
                )

    def _hop_ms(self, one: Device, other: Device) -> float:
        return self.space.hop_s(self.times, one, other) * MS

    def _place_head(self, program: Program) -> None:
        """The head is on the last card that is used; each one is reached from another, the first from the CPU."""
        for card in self.space.cards:
            cost = self.space.core_s(self.times, self.head, card) * MS
            self.head_on[card.name] = program.variable(cost=cost, lower=float(card.name == self.last))
            is_first = card is self.first
            hop = 0.0 if is_first else min(self._hop_ms(one, card) for one in self.space.cards if one is not card)
            self.used[card.name] = program.variable(cost=hop, lower=float(is_first))
        program.row([(one, 1.0) for one in self.head_on.values()], lower=1.0, upper=1.0)
        for card in self.space.cards:
            held = [(self.cores[layer, card.name], 1.0) for layer in self.kinds]
            used, head = self.used[card.name], self.head_on[card.name]
            program.row([(used, 1.0), (head, -1.0), *((one, -factor) for one, factor in held)], upper=0.0)
            program.row([(head, 1.0), (used, -1.0)], upper=0.0)
            for layer, count in self.kinds.items():
                most = self._most(card, layer, count)
                program.row([(self.cores[layer, card.name], 1.0), (used, -most)], upper=0.0)
            if card is not self.first:
                program.row([(self.head_on[self.first.name], 1.0), (used, 1.0)], upper=1.0)

    def _most(self, card: Device, layer: LayerCosts, count: int) -> float:
        size_bytes = layer.core_bytes + layer.kv_bytes
        if card.usable_bytes is None or not size_bytes:
            return float(count)
        return float(min(count, card.usable_bytes // size_bytes))

    def _notice_hops(self, program: Program) -> None:
        """Where a card's last experts are away, a hop to the next card is saved, and two where they are on that one."""
        on_cpu = program.variable(cost=self._hop_ms(self.space.cpu, self.first))
        for layer, count in self.kinds.items():
            program.row([(self.cores[layer, CPU], 1.0), (on_cpu, -float(count))], upper=0.0)
        saved = []
        for card in self.space.cards:
            longest = max((self._hop_ms(card, other) for other in self.others if other is not card), default=0.0)
            one = program.variable(cost=-longest)
            saved.append(one)
            away = [
                (number, -1.0)
                for (kind, at, home), number in self.experts.items()
                if at == card.name != home and kind in self._that_hand_on
            ]
            program.row([(one, 1.0), *away], upper=0.0)
            program.row([(one, 1.0), (self.used[card.name], -1.0)], upper=0.0)
            for other in self.others:
                if other is not card:
                    self._notice_follower(program, card, other)
        used = [(number, -1.0) for number in self.used.values()]
        program.row([*((one, 1.0) for one in saved), *used], upper=-1.0)
        program.row([*((one, 1.0) for one in self.follows.values()), *used], upper=-1.0)
        for card in self.space.cards:
            for place in (0, 1):
                pairs = [(number, 1.0) for pair, number in self.follows.items() if pair[place] == card.name]
                program.row([*pairs, (self.used[card.name], -1.0)], upper=0.0)

    @cached_property
    def _that_hand_on(self) -> tuple[Kind, ...]:
        """List the classes of experts from which work does not return to the core."""
        return tuple(kind for kind, members in self.classes.items() if not members[0].ends_with_core)

    def _notice_follower(self, program: Program, card: Device, other: Device) -> None:
        pair = card.name, other.name
        self.follows[pair] = program.variable(cost=-self._hop_ms(card, other))
        there = [(self.experts[kind, *pair], -1.0) for kind in self._that_hand_on]
        program.row([(self.follows[pair], 1.0), *there], upper=0.0)

    def _notice_lending(self, program: Program) -> None:
        self.lends.extend(program.variable() for _ in range(2))
        for kind, members in self.classes.items():
            count = float(sum(self.kinds[layer] for layer in members))
            on_cpu = {core: number for (one, core, home), number in self.experts.items() if (one, home) == (kind, CPU)}
            program.row([*((number, 1.0) for number in on_cpu.values()), (self.lends[0], -count)], upper=0.0)
            of_others = [(on_cpu[card.name], 1.0) for card in self.others]
            program.row([*of_others, (self.lends[1], -count)], upper=0.0)
        for layer, count in self.kinds.items():
            program.row([(self.cores[layer, CPU], 1.0), (self.lends[0], -float(count))], upper=0.0)

    def _keep_within_memory(self, program: Program) -> None:
        for device in self.space.devices:
            if device.usable_bytes is None:
                continue
            terms: list[Term] = [
                (self.cores[layer, device.name], (layer.core_bytes + layer.kv_bytes) / MIB) for layer in self.kinds
            ]
            terms += [(number, key[0][0] / MIB) for key, number in self.experts.items() if key[2] == device.name]
            room = float(device.usable_bytes)
            if not device.is_cpu:
                is_first = device is self.first
                without = self.space.role_bytes(Role(is_first, True, False, False))
                head = self.space.role_bytes(Role(is_first, True, True, False)) - without + self.head.core_bytes
                terms.append((self.head_on[device.name], head / MIB))
                terms += zip(self.lends, lent_mib(self.space), strict=True) if is_first else ()
                room -= without
            program.row(terms, upper=room / MIB)

    def solved(self, cutoff_s: float = inf) -> Counted:
        """Solve the program, and read an order from it."""
        solution = self.program.solved(cutoff=cutoff_s * MS, nodes=self.space.limits.nodes)
        if solution is None:
            return Counted(None, (), cutoff_s)
        least_s = min(solution.bound, solution.objective) / MS
        if not solution.values:
            return Counted(None, (), least_s)
        order = self._order(solution.values)
        counts = [
            round(sum(solution.values[self.cores[layer, device.name]] for layer in self.kinds))
            for device in (self.space.cpu, *order)
        ]
        cuts = [sum(counts[: stage + 1]) for stage in range(len(order))]
        # The head comes after all layers, on the last card that is used.
        last = next(at for at, card in enumerate(order, start=1) if solution.values[self.head_on[card.name]] > 0.5)
        cuts = [cut if stage < last else self.space.slots for stage, cut in enumerate(cuts)]
        return Counted(order, tuple(cuts), least_s)

    def _order(self, values: tuple[float, ...]) -> tuple[Device, ...]:
        """Follow the hops that are saved; cards that hold no layer come last."""
        used = [card for card in self.others if values[self.used[card.name]] > 0.5]
        order = [self.first]
        while used:
            here = order[-1].name
            inner = [card for card in used if values[self.head_on[card.name]] < 0.5] or used
            best = next((card for card in inner if values[self.follows[here, card.name]] > 0.5), inner[0])
            used.remove(best)
            order.append(best)
        return (*order, *(card for card in self.others if card not in order))


def unevenness(layers: Sequence[LayerCosts], kind: LayerCosts) -> float:
    """Say by how much the number of a kind in any run of layers may differ from what their average tells."""
    share = sum(layer == kind for layer in layers) / len(layers)
    differences = list(accumulate(((layer == kind) - share for layer in layers), initial=0.0))
    return max(differences) - min(differences) + _ROUNDING
