"""Find the best plan for a model with experts, where those of some layers are on another card or with the CPU.

Each order of the cards is a small integer program (`solve_formulation`). Most are left out because even with fractions
of layers they could not win, and the others are only asked for something better than what is known. Of many cards there
are too many orders: there, for each first card, a program tells how many layers each card gets, whatever the order
(`solve_counts`), and what no order gets below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from math import inf

from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import GAP
from kloros_infra.placement.solve_counts import Counts
from kloros_infra.placement.solve_formulation import MS, Formulation
from kloros_infra.placement.solve_space import Found, Space


@dataclass(frozen=True, slots=True)
class Candidate:
    """Orders of the cards, and what no plan with them gets below: one order, or all that begin with the one card in it.

    With `last` they end with that card as well; it has the head.
    """

    space: Space
    order: tuple[Device, ...]
    bound_s: float
    is_order: bool = True
    last: str | None = None

    @property
    def is_divisible(self) -> bool:
        return not self.is_order and self.last is None


@dataclass(frozen=True, slots=True)
class Answer:
    """The best plan of a candidate, if there is one below what was asked for; none costs less than `least_s`."""

    found: Found | None
    least_s: float


def candidates(space: Space) -> tuple[Candidate, ...]:
    """Bound all orders from below by programs without whole numbers, which take milliseconds."""
    found = []
    is_order = len(space.cards) <= space.limits.cards_in_all_orders
    for order in _orders(space.cards, len(space.cards) if is_order else 1):
        program = Formulation(space, order).program if is_order else Counts(space, order[0]).program
        relaxed = program.solved(is_whole=False)
        if relaxed is not None:
            found.append(Candidate(space, order, relaxed.objective / MS, is_order))
    return tuple(found)


def _orders(cards: tuple[Device, ...], count: int) -> Iterator[tuple[Device, ...]]:
    """List the orders of so many cards, some of which may hold nothing; the first one always holds a layer.

    The first one works for the CPU as well, which other hosts' cards do not.
    """
    seen: set[tuple[object, ...]] = set()
    has_own = any(not card.is_remote for card in cards)
    for order in permutations(cards, count):
        if has_own and order[0].is_remote:
            continue
        kinds = tuple(card.kind for card in order)
        if kinds not in seen:
            seen.add(kinds)
            yield order


def by_last(candidate: Candidate, bound_s: float) -> tuple[Candidate, ...]:
    """Divide the orders that begin with a card by the card that they end with; none costs less than is known."""
    first = candidate.order[0]
    kinds = {(card is first, card.kind): card.name for card in reversed(candidate.space.cards)}
    return tuple(replace(candidate, last=name, bound_s=bound_s) for name in sorted(kinds.values()))


def solve_candidate(candidate: Candidate, cutoff_s: float = inf) -> Answer:
    """Solve the program of an order, or of those that begin with a card."""
    if candidate.is_order:
        return _solved(Formulation(candidate.space, candidate.order), cutoff_s)
    return _counted(Counts(candidate.space, candidate.order[0], candidate.last), cutoff_s)


def _counted(counts: Counts, cutoff_s: float) -> Answer:
    """Look at the order that counts of layers tell, near these counts."""
    counted = counts.solved(cutoff_s)
    if counted.order is None:
        return Answer(None, counted.least_s)
    return Answer(_solved(Formulation(counts.space, counted.order, counted.cuts), cutoff_s).found, counted.least_s)


def _solved(formulation: Formulation, cutoff_s: float) -> Answer:
    solution = formulation.program.solved(cutoff=cutoff_s * MS, nodes=formulation.space.limits.nodes)
    if solution is None:
        return Answer(None, cutoff_s)
    least_s = min(solution.bound, solution.objective) / MS
    if not solution.values:
        return Answer(None, least_s)
    return Answer(Found(formulation.assignment(solution.values), solution.objective / MS), least_s)


def is_worth_it(candidate: Candidate, best_s: float) -> bool:
    """Say whether an order may still beat what was found, by more than is looked for."""
    return candidate.bound_s < cutoff_of(best_s)


def cutoff_of(best_s: float) -> float:
    """Say what a plan has to cost less than to be worth more searching."""
    return best_s * (1 - GAP)
