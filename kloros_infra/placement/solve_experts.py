"""Find the best plan for a model with experts, where those of some layers are on another card or with the CPU.

Layers whose experts are alike are interchangeable: what counts is how many of each class are where. The cores of the
layers are in runs, as in `solve_dense`, after those of the CPU. That makes a small integer program for each order of
the cards, of which most are left out because even with fractions of layers they could not win.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, permutations

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import LayerCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import GAP, Program
from kloros_infra.placement.memory import Role
from kloros_infra.placement.solve_dense import Found, Space
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.stage_times import StageTimes

MIB = 2**20
_MS = 1e3
_MOST_ORDERS = 24

Term = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One order of the cards, and what no plan with it gets below."""

    space: Space
    order: tuple[Device, ...]
    bound_s: float


def candidates(space: Space) -> tuple[Candidate, ...]:
    """Bound all orders from below by programs without whole numbers, which take milliseconds."""
    found = []
    for order in _orders(space.cards):
        relaxed = _Formulation(space, order).program.solved(is_whole=False)
        if relaxed is not None:
            found.append(Candidate(space, order, relaxed.objective / _MS))
    return tuple(found)


def _orders(cards: tuple[Device, ...]) -> Iterator[tuple[Device, ...]]:
    """List the orders of all cards, some of which may hold nothing; the first one always holds a layer.

    The first one works for the CPU as well, which other hosts' cards do not.
    """
    seen: set[tuple[object, ...]] = set()
    has_own = any(not card.is_remote for card in cards)
    for order in permutations(cards):
        if has_own and order[0].is_remote:
            continue
        kinds = tuple(card.kind for card in order)
        if kinds not in seen:
            seen.add(kinds)
            yield order
        if len(seen) == _MOST_ORDERS:
            return


def solve_candidate(candidate: Candidate) -> Found | None:
    """Solve the program of one order; None where the model does not fit."""
    formulation = _Formulation(candidate.space, candidate.order)
    solution = formulation.program.solved()
    if solution is None:
        return None
    gap = max(0.0, 1 - solution.bound / solution.objective)
    return Found(formulation.assignment(solution.values), solution.objective / _MS, min(gap, 1.0))


def is_worth_it(candidate: Candidate, best_s: float) -> bool:
    """Say whether an order may still beat what was found, by more than is looked for."""
    return candidate.bound_s < best_s * (1 - GAP)


@dataclass(frozen=True)
class _Formulation:
    """The program of one order. Stages are the CPU and then the cards; slots are the layers and then the head."""

    space: Space
    order: tuple[Device, ...]

    @cached_property
    def stages(self) -> tuple[Device, ...]:
        return (self.space.cpu, *self.order)

    @cached_property
    def layers(self) -> tuple[LayerCosts, ...]:
        return self.space.costs.layers

    @cached_property
    def times(self) -> StageTimes:
        return StageTimes(self.space.costs, self.order[0])

    @cached_property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Group the layers whose experts are alike."""
        alike: dict[tuple[float, ...], list[int]] = {}
        for number, layer in enumerate(self.layers):
            if layer.has_experts:
                key = (layer.expert_bytes, layer.expert_read_bytes, layer.expert_flops)
                alike.setdefault(key, []).append(number)
        return tuple(map(tuple, alike.values()))

    @cached_property
    def program(self) -> Program:
        program = Program()
        self._add_variables(program)
        self._keep_in_order(program)
        self._share_out_experts(program)
        self._notice_savings(program)
        self._keep_within_memory(program)
        return program

    # Variables. `by[stage][slot]`: the slot is in this stage or one before; `used[stage]`: a card has layers;
    # `experts[class][stage][device]`: how many of the stage's layers of a class have their experts on a device.

    @cached_property
    def by(self) -> list[list[int]]:
        width = len(self.layers)
        return [[stage * width + slot for slot in range(width)] for stage in range(len(self.order))]

    @cached_property
    def used(self) -> list[int]:
        first = len(self.order) * len(self.layers)
        return [first + stage for stage in range(len(self.order))]

    @cached_property
    def lends(self) -> tuple[int, int]:
        """Number what is 1 where the CPU has any weights, and where it has experts of another card than the first."""
        return self.used[-1] + 1, self.used[-1] + 2

    @cached_property
    def savings(self) -> list[tuple[int, int]]:
        """Number, for each stage of a card and the one after it, two hops that may be saved between them.

        Work goes on with the next card from wherever the last experts are, and without a hop if these are there.
        """
        first = self.lends[-1] + 1
        return [(first + 2 * border, first + 2 * border + 1) for border in range(len(self.order) - 1)]

    @cached_property
    def experts(self) -> dict[tuple[int, int, str], int]:
        """Number the counts; layers of the CPU have their experts there as well."""
        keys = [
            (kind, stage, device.name)
            for kind in range(len(self.classes))
            for stage, _ in enumerate(self.stages)
            for device in (self.space.devices if stage else (self.space.cpu,))
        ]
        first = self.lends[-1] + 1 + 2 * len(self.savings)
        return {key: first + number for number, key in enumerate(keys)}

    def in_stage(self, stage: int, slot: int, factor: float) -> Iterator[Term]:
        """Give the terms of `factor` where a slot is in a stage; constants of the last stage are left to rows."""
        if stage < len(self.order):
            yield self.by[stage][slot], factor
        if stage > 0:
            yield self.by[stage - 1][slot], -factor

    def _add_variables(self, program: Program) -> None:
        costs = [[0.0] * len(self.layers) for _ in self.order]
        for slot, layer in enumerate(self.layers):
            each = [self._core_s(layer, device) for device in self.stages]
            for stage in range(len(self.order)):
                costs[stage][slot] = (each[stage] - each[stage + 1]) * _MS
        # If the CPU has layers, it has the first one.
        costs[0][0] += self._hop_s(self.space.cpu, self.order[0]) * _MS
        for stage, row in enumerate(costs):
            may_hold = stage > 0 or self.space.cpu.takes_layers
            for cost in row:
                program.variable(cost=cost, upper=float(may_hold))
        for stage, device in enumerate(self.order):
            before = self.stages[stage]
            program.variable(cost=self._hop_s(before, device) * _MS if stage else 0.0)
        for _ in self.lends:
            program.variable()
        for one, other in pairwise(self.order):
            for _ in range(2):
                program.variable(cost=-self._hop_s(one, other) * _MS)
        for kind, stage, name in self.experts:
            members = self.classes[kind]
            device = self.space.by_name[name]
            cost = self._expert_s(self.layers[members[0]], self.stages[stage], device)
            program.variable(cost=cost * _MS, upper=len(members) if device.takes_layers else 0)
        # All slots on the last card, from which the costs above are differences.
        program.offset = sum(self._core_s(layer, self.order[-1]) for layer in self.layers) * _MS

    def _core_s(self, layer: LayerCosts, device: Device) -> float:
        times = self.times
        return self.space.preference.seconds(times.prefill_core_s(layer, device), times.decode_core_s(layer, device))

    def _hop_s(self, one: Device, other: Device) -> float:
        times = self.times
        return self.space.preference.seconds(times.prefill_hop_s(one, other), times.decode_hop_s(one, other))

    def _expert_s(self, layer: LayerCosts, core: Device, device: Device) -> float:
        times = self.times
        there_s = self.space.preference.seconds(
            times.prefill_experts_s(layer, device), times.decode_experts_s(layer, device)
        )
        return there_s + (2 * self._hop_s(core, device) if device is not core else 0.0)

    def _keep_in_order(self, program: Program) -> None:
        """Stages are runs: what is in one is followed by what is in the same or a later one."""
        slots = len(self.layers)
        for stage, row in enumerate(self.by):
            for slot in range(slots - 1):
                program.row([(row[slot], 1.0), (row[slot + 1], -1.0)], lower=0.0)
            if stage + 1 < len(self.by):
                for slot in range(slots):
                    program.row([(self.by[stage + 1][slot], 1.0), (row[slot], -1.0)], lower=0.0)
        for stage, used in enumerate(self.used, start=1):
            terms = [term for slot in range(slots) for term in self.in_stage(stage, slot, 1.0)]
            left = slots if stage == len(self.order) else 0
            program.row([*terms, (used, -float(slots))], upper=-float(left))
            program.row([*terms, (used, -1.0)], lower=-float(left))
        # The first card has a layer, or another order would say the same.
        first = [term for slot in range(slots) for term in self.in_stage(1, slot, 1.0)]
        program.row(first, lower=1.0 - (slots if len(self.order) == 1 else 0))

    def _share_out_experts(self, program: Program) -> None:
        for kind, members in enumerate(self.classes):
            for stage, _ in enumerate(self.stages):
                given = [(self.experts[kind, stage, device.name], 1.0) for device in self._homes(stage)]
                cores = [term for slot in members for term in self.in_stage(stage, slot, -1.0)]
                left = float(len(members)) if stage == len(self.order) else 0.0
                program.row([*given, *cores], lower=left, upper=left)

    def _notice_savings(self, program: Program) -> None:
        for stage, saved in enumerate(self.savings, start=1):
            following = self.stages[stage + 1].name
            away = [
                (variable, home)
                for (_, at, home), variable in self.experts.items()
                if at == stage and home != self.stages[stage].name
            ]
            for one, homes in zip(saved, ({home for _, home in away}, {following}), strict=True):
                program.row([(one, 1.0), *((variable, -1.0) for variable, home in away if home in homes)], upper=0.0)
                for used in self.used[stage - 1 : stage + 1]:
                    program.row([(one, 1.0), (used, -1.0)], upper=0.0)

    def _homes(self, stage: int) -> tuple[Device, ...]:
        return self.space.devices if stage else (self.space.cpu,)

    def _keep_within_memory(self, program: Program) -> None:
        for stage, device in enumerate(self.stages):
            if device.usable_bytes is None:
                continue
            terms = self._held(stage, device.name)
            room = float(device.usable_bytes)
            if stage:
                without = self.space.role_bytes(Role(stage == 1, True, False, False))
                with_head = self.space.role_bytes(Role(stage == 1, True, True, False))
                head = list(self.in_stage(stage, len(self.layers) - 1, (with_head - without) / MIB))
                terms += head
                room -= without
                if stage == len(self.order):
                    room -= with_head - without
            if stage == 1:
                terms += self._lent()
            if stage == len(self.order):
                room -= sum(layer.core_bytes + layer.kv_bytes for layer in self.layers)
            program.row(terms, upper=room / MIB)
        self._notice_lending(program)

    def _held(self, stage: int, name: str) -> list[Term]:
        terms = [
            term
            for slot, layer in enumerate(self.layers)
            for term in self.in_stage(stage, slot, (layer.core_bytes + layer.kv_bytes) / MIB)
        ]
        for (kind, _, home), variable in self.experts.items():
            if home == name:
                terms.append((variable, self.layers[self.classes[kind][0]].expert_bytes / MIB))
        return terms

    def _lent(self) -> tuple[Term, Term]:
        """Say what the first card keeps free beside its own steps where weights of the CPU are copied to it."""
        lent = max((group.size_bytes for group in self.space.costs.header.tensors if group.layers), default=0)
        alone = Role(is_first=True, holds_layers=True, holds_head=False, is_pipelined=False)
        of_cpu = replace(alone, lent_bytes=lent)
        sizes = [self.space.role_bytes(role) for role in (alone, of_cpu, replace(of_cpu, has_lent_for_others=True))]
        return (self.lends[0], (sizes[1] - sizes[0]) / MIB), (self.lends[1], (sizes[2] - sizes[1]) / MIB)

    def _notice_lending(self, program: Program) -> None:
        most = float(len(self.layers))
        on_cpu = {key: variable for key, variable in self.experts.items() if key[2] == CPU}
        cores = [(variable, 1.0) for variable in self.by[0]]
        program.row([*((one, 1.0) for one in on_cpu.values()), *cores, (self.lends[0], -2 * most)], upper=0.0)
        of_others = [(variable, 1.0) for (_, stage, _), variable in on_cpu.items() if stage > 1]
        program.row([*of_others, (self.lends[1], -most)], upper=0.0)

    def assignment(self, values: tuple[float, ...]) -> Assignment:
        """Read a solution: which layers, of those that are alike, is chosen so that they follow each other."""
        stage_of = [sum(values[row[slot]] < 0.5 for row in self.by) for slot in range(len(self.layers))]
        layer_devices = tuple(self.stages[stage].name for stage in stage_of)
        expert_devices = list(layer_devices[:-1])
        for kind, members in enumerate(self.classes):
            for stage, _ in enumerate(self.stages):
                here = [slot for slot in members if stage_of[slot] == stage]
                for slot, name in zip(here, self._shared_out(values, kind, stage, stage_of), strict=True):
                    expert_devices[slot] = name
        used = {*layer_devices, *expert_devices}
        cards = tuple(device.name for device in self.order if device.name in used)
        return Assignment(cards, layer_devices, tuple(expert_devices))

    def _shared_out(self, values: tuple[float, ...], kind: int, stage: int, stage_of: list[int]) -> Iterator[str]:
        """Name the devices of a run's experts: its own first; last those that work goes on with, which saves a hop."""
        own = self.stages[stage].name
        following = next((self.stages[later].name for later in stage_of if later > stage), "")
        for device in sorted(self._homes(stage), key=lambda one: (one.name != own, one.name == following)):
            yield from [device.name] * round(values[self.experts[kind, stage, device.name]])
