"""What llama-server does by itself where nobody places for it, in whole layers: for comparison.

Without --fit it gives each card a share of the layers by its free memory (llama-model.cpp, load_tensors). With it
(common/fit.cpp, the default), it leaves that alone where each card keeps a margin. Else cards are filled from the last
one backwards; of a model with experts, all of them first stay with the CPU, and then the cards, from the first one on,
get whole layers in place of such as long as all keep their margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kloros_infra.ir.placement import CPU, DeviceLoad
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.speed import Assignment, in_runs
from kloros_infra.placement.split import by_share
from kloros_infra.placement.task import Task

FIT_MARGIN_BYTES = 1024 * 2**20
"""What --fit leaves free on each card (common/common.h, fit_params_target)."""


def divided(task: Task, free_bytes: Sequence[int]) -> Assignment:
    """Divide all layers by free memory."""
    shares = free_bytes if any(free_bytes) else [1] * len(task.cards)
    counts = by_share(_slots(task), shares)
    names = tuple(card.name for card, count in zip(task.cards, counts, strict=True) for _ in range(count))
    return in_runs(tuple(card.name for card in task.cards), names)


def fitted(task: Task, free_bytes: Sequence[int]) -> Assignment | None:
    """Do what --fit does; None where that is too much for the CPU's memory."""
    plan = divided(task, free_bytes)
    cards = _Cards(task, tuple(free_bytes))
    if cards.keep_margins(plan):
        return plan
    filled = cards.filled((0,) * len(free_bytes))
    if task.header.expert_count:
        filled = _with_whole_layers(cards, filled)
    return filled.assignment if cards.keep_margins(filled.assignment) else None


@dataclass(frozen=True, slots=True)
class _Filled:
    """Layers by card: `whole` of each have their experts with them; `assignment` says where everything is."""

    whole: tuple[int, ...]
    assignment: Assignment

    @property
    def on_cpu(self) -> int:
        return self.assignment.layer_devices.count(CPU)


def _with_whole_layers(cards: _Cards, filled: _Filled) -> _Filled:
    for card in range(len(filled.whole)):
        while sum(filled.whole) + filled.on_cpu < cards.slots - 1:
            raised = tuple(count + (index == card) for index, count in enumerate(filled.whole))
            found = cards.filled(raised)
            if found.on_cpu > filled.on_cpu or not cards.keep_margins(found.assignment):
                break
            filled = found
    return filled


@dataclass(frozen=True, slots=True)
class _Cards:
    task: Task
    free_bytes: tuple[int, ...]

    @property
    def slots(self) -> int:
        return _slots(self.task)

    def keep_margins(self, plan: Assignment) -> bool:
        return all(map(self._keeps, loads_of(self.task, self.task.work, plan)))

    def _keeps(self, load: DeviceLoad) -> bool:
        names = [card.name for card in self.task.cards]
        if load.device not in names:
            return load.fits
        return load.total_bytes + FIT_MARGIN_BYTES <= self.free_bytes[names.index(load.device)]

    def filled(self, whole: tuple[int, ...]) -> _Filled:
        """Give cards so many whole layers, and others as many as they hold, from the last card backwards."""
        counts = list(whole)
        for card in reversed(range(len(counts))):
            counts[card] += self._most(whole, counts, card)
        return _Filled(whole, self._plan(whole, counts))

    def _most(self, whole: tuple[int, ...], counts: list[int], card: int) -> int:
        """Find how many more layers a card holds; what no card has yet is with the CPU."""
        low, high = 0, self.slots - sum(counts)
        while low < high:
            middle = (low + high + 1) // 2
            more = [count + middle * (index == card) for index, count in enumerate(counts)]
            loads = loads_of(self.task, self.task.work, self._plan(whole, more))
            if all(self._keeps(load) for load in loads if load.device == self.task.cards[card].name):
                low = middle
            else:
                high = middle - 1
        return low

    def _plan(self, whole: tuple[int, ...], counts: Sequence[int]) -> Assignment:
        blocks = list(zip((card.name for card in self.task.cards), whole, counts, strict=True))
        on_cpu = self.slots - sum(counts)
        layers = (*[CPU] * on_cpu, *(name for name, _, count in blocks for _ in range(count)))
        if not self.task.header.expert_count:
            return in_runs(tuple(card.name for card in self.task.cards), layers)
        experts = (
            *[CPU] * on_cpu,
            *(name if at < full else CPU for name, full, count in blocks for at in range(count)),
        )
        return Assignment(tuple(card.name for card in self.task.cards), layers, experts[:-1])


def _slots(task: Task) -> int:
    return task.header.layer_count + 1
