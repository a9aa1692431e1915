"""The integer program of one order of the cards, for a model with experts.

Layers whose experts are alike are interchangeable: what counts is how many of each class are where. The cores of the
layers are in runs, as in `solve_dense`, after those of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import LayerCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import Program
from kloros_infra.placement.memory import Role
from kloros_infra.placement.solve_space import Space
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.stage_times import StageTimes

MIB = 2**20
MS = 1e3
"""Programs are in milliseconds and MiB, so that their figures are neither large nor small."""
_NEAR = 4

Term = tuple[int, float]


def alike_experts(layer: LayerCosts) -> tuple[float, ...]:
    """Say what experts that are alike have in common; whether their layer goes on by itself decides where hops are."""
    return (
        layer.expert_bytes,
        layer.expert_read_bytes,
        layer.expert_flops,
        layer.expert_turns,
        layer.ends_with_core,
    )


def lent_mib(space: Space) -> tuple[float, float]:
    """Say what the first card keeps free where the CPU has weights, and more where they are of another card's layers.

    Both are in MiB, beside the card's own steps.
    """
    lent = max((group.size_bytes for group in space.costs.header.tensors if group.layers), default=0)
    alone = Role(is_first=True, holds_layers=True, holds_head=False, is_pipelined=False)
    of_cpu = replace(alone, lent_bytes=lent)
    sizes = [space.role_bytes(role) for role in (alone, of_cpu, replace(of_cpu, has_lent_for_others=True))]
    return (sizes[1] - sizes[0]) / MIB, (sizes[2] - sizes[1]) / MIB


@dataclass(frozen=True)
class Formulation:
    """The program of one order. Stages are the CPU and then the cards; slots are the layers and then the head.

    With `cuts`, which say where each stage but the last ends, only plans near these are looked at.
    """

    space: Space
    order: tuple[Device, ...]
    cuts: tuple[int, ...] = ()

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
                alike.setdefault(alike_experts(layer), []).append(number)
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
                costs[stage][slot] = (each[stage] - each[stage + 1]) * MS
        # If the CPU has layers, it has the first one.
        costs[0][0] += self._hop_s(self.space.cpu, self.order[0]) * MS
        for stage, row in enumerate(costs):
            for slot, cost in enumerate(row):
                lower, upper = self._bounds(stage, slot)
                program.variable(cost=cost, lower=lower, upper=upper)
        for stage, device in enumerate(self.order):
            before = self.stages[stage]
            program.variable(cost=self._hop_s(before, device) * MS if stage else 0.0)
        for _ in self.lends:
            program.variable()
        for one, other in pairwise(self.order):
            for _ in range(2):
                program.variable(cost=-self._hop_s(one, other) * MS)
        for kind, stage, name in self.experts:
            members = self.classes[kind]
            device = self.space.by_name[name]
            cost = self._expert_s(self.layers[members[0]], self.stages[stage], device)
            program.variable(cost=cost * MS, upper=len(members) if device.takes_layers else 0)
        # All slots on the last card, from which the costs above are differences.
        program.offset = sum(self._core_s(layer, self.order[-1]) for layer in self.layers) * MS

    def _bounds(self, stage: int, slot: int) -> tuple[float, float]:
        """Say whether a slot is surely in this stage or one before, and whether it may be."""
        if stage == 0 and not self.space.cpu.takes_layers:
            return 0.0, 0.0
        if not self.cuts:
            return 0.0, 1.0
        return float(slot < self.cuts[stage] - _NEAR), float(slot < self.cuts[stage] + _NEAR)

    def _core_s(self, layer: LayerCosts, device: Device) -> float:
        return self.space.core_s(self.times, layer, device)

    def _hop_s(self, one: Device, other: Device) -> float:
        return self.space.hop_s(self.times, one, other)

    def _expert_s(self, layer: LayerCosts, core: Device, device: Device) -> float:
        there_s = self.space.experts_s(self.times, layer, device)
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
                for (kind, at, home), variable in self.experts.items()
                if at == stage and home != self.stages[stage].name and not self._goes_back(kind)
            ]
            for one, homes in zip(saved, ({home for _, home in away}, {following}), strict=True):
                program.row([(one, 1.0), *((variable, -1.0) for variable, home in away if home in homes)], upper=0.0)
                for used in self.used[stage - 1 : stage + 1]:
                    program.row([(one, 1.0), (used, -1.0)], upper=0.0)

    def _goes_back(self, kind: int) -> bool:
        """Say whether work returns to the core from the experts of a class, so that no hop is saved."""
        return self.layers[self.classes[kind][0]].ends_with_core

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
        own, others = lent_mib(self.space)
        return (self.lends[0], own), (self.lends[1], others)

    def _notice_lending(self, program: Program) -> None:
        most = float(sum(map(len, self.classes)))
        on_cpu = {key: variable for key, variable in self.experts.items() if key[2] == CPU}
        # If the CPU has layers, it has the first one.
        program.row([(self.by[0][0], 1.0), (self.lends[0], -1.0)], upper=0.0)
        program.row([*((one, 1.0) for one in on_cpu.values()), (self.lends[0], -most)], upper=0.0)
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
