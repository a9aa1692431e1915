"""Every set of GPUs that may be present → the profile that is active then, what runs, and what it takes.

All of it is compiled beforehand, so all of it can be reviewed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from kloros_infra.ir.card_share import MIB
from kloros_infra.ir.catalog import Profile
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.names import instance_of, is_instance
from kloros_infra.planner.card_use import file_shares
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.figures import size_text

MOST_CARDS = 6
"""Up to 64 sets; of more cards only those sets are listed that lack at most two, or hold at most one."""

HEADER = ("GPUS PRESENT", "PROFILE", "INSTANCES", "GPU MEMORY")


@dataclass(frozen=True, slots=True)
class CardUse:
    """What the instances that run take of a card."""

    card: str
    used_bytes: int
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One set of cards; `instances` run at once, `on_demand` when they are asked for."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    profile: str
    instances: tuple[str, ...]
    on_demand: tuple[str, ...]
    cards: tuple[CardUse, ...]


def matrix(
    desired: Desired, profiles: Sequence[Profile], select: Callable[[frozenset[str]], str]
) -> tuple[MatrixRow, ...]:
    """List the sets of cards, the fullest first; `select` is the router's choice of a profile."""
    cards = tuple(dict.fromkeys(card.name for profile in profiles for card in profile.cards))
    rows = {profile.name: _under(desired, profile.name) for profile in profiles}
    found = []
    for present in _subsets(cards):
        profile = select(frozenset(present))
        instances, on_demand, uses = rows[profile]
        absent = tuple(card for card in cards if card not in present)
        found.append(MatrixRow(present, absent, profile, instances, on_demand, uses))
    return tuple(found)


def _subsets(cards: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    sizes = range(len(cards), -1, -1)
    if len(cards) > MOST_CARDS:
        sizes_listed = {len(cards), len(cards) - 1, len(cards) - 2, 1, 0}
        yield from (present for size in sizes if size in sizes_listed for present in combinations(cards, size))
        return
    yield from (present for size in sizes for present in combinations(cards, size))


def _under(desired: Desired, profile: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[CardUse, ...]]:
    """Say what runs under a profile, and what it takes."""
    units = [unit.under(profile) for unit in desired.units if profile in unit.profiles and is_instance(unit.unit)]
    always = [unit for unit in units if unit.run is Run.ALWAYS]
    on_demand = [unit for unit in units if unit.run is Run.ON_DEMAND]
    return tuple(map(_name, always)), tuple(map(_name, on_demand)), _uses(always, desired)


def _name(unit: DesiredUnit) -> str:
    return instance_of(unit.unit)


def _uses(units: Sequence[DesiredUnit], desired: Desired) -> tuple[CardUse, ...]:
    used: dict[str, int] = {}
    capacity: dict[str, int] = {}
    for unit in units:
        for share in file_shares(unit.unit, desired.tree, desired.layout):
            used[share.card] = used.get(share.card, 0) + share.used_mib * MIB
            capacity[share.card] = share.capacity_mib * MIB
    return tuple(CardUse(card, used[card], capacity[card]) for card in used)


def matrix_cells(rows: Sequence[MatrixRow]) -> tuple[tuple[str, ...], ...]:
    """Write rows for a table, below its header."""
    return (HEADER, *(_cells(row) for row in rows))


def _cells(row: MatrixRow) -> tuple[str, ...]:
    later = (f"({name} on demand)" for name in row.on_demand)
    memory = (f"{use.card} {size_text(use.used_bytes)} of {size_text(use.capacity_bytes)}" for use in row.cards)
    return (
        ", ".join(row.present) or "none",
        row.profile,
        ", ".join((*row.instances, *later)) or "none",
        ", ".join(memory) or "none",
    )


def matrix_json(row: MatrixRow) -> dict[str, object]:
    """Write one row for programs."""
    return {
        "type": "matrix_row",
        "present": row.present,
        "absent": row.absent,
        "profile": row.profile,
        "instances": row.instances,
        "on_demand": row.on_demand,
        "cards": [
            {"card": use.card, "used_bytes": use.used_bytes, "capacity_bytes": use.capacity_bytes} for use in row.cards
        ],
    }
