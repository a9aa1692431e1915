"""When each unit stops and starts: new before old where the cards hold both, and never more on a card than it holds.

Units of which nothing runs start together, in waves; those that run restart one after another, so that the others
answer meanwhile. What goes away goes on until the new ones answer. Both give way where a card or a port would be taken
before it is free: a restart that takes less than before comes first, and where no order helps, a unit stops early.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby

from kloros_infra.ir.artifact import text_of
from kloros_infra.ir.card_share import CardShare
from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.names import BUS_UNIT, ROUTER_UNIT, is_instance
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.planner.card_use import desired_shares, running_shares
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.definitions import PORT, environment
from kloros_infra.planner.keeping import remembered
from kloros_infra.planner.unit_changes import UnitChange, Verb, stop_rank


@dataclass(frozen=True, slots=True)
class Schedule:
    """Units by name: who stops early, who starts together or restarts alone, who stops late, and who starts then."""

    early: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]
    late: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a unit takes while it runs: MiB of each card, and ports."""

    cards: Mapping[str, int] = field(default_factory=dict)
    ports: frozenset[int] = frozenset()


NOTHING = _Claim()


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is to be ordered: units that start or restart, those that may stop late, and what all of them take."""

    turns: tuple[str, ...]
    restarts: frozenset[str]
    patient: frozenset[str]
    before: Mapping[str, _Claim]
    after: Mapping[str, _Claim]
    capacity: Mapping[str, int]


class _Room:
    """Cards and ports as they are taken at one moment."""

    def __init__(self, capacity: Mapping[str, int], held: Mapping[str, _Claim]) -> None:
        self._capacity = capacity
        self._held: dict[str, _Claim] = {}
        self._used: dict[str, int] = {}
        self._holders: dict[int, str] = {}
        for unit, claim in held.items():
            self.take(unit, claim)

    def take(self, unit: str, claim: _Claim) -> None:
        """Have a unit run by a claim, in place of the one that it ran by."""
        former = self._held.get(unit, NOTHING)
        for cards, sign in ((former.cards, -1), (claim.cards, 1)):
            for card, mib in cards.items():
                self._used[card] = self._used.get(card, 0) + sign * mib
        for port in former.ports:
            self._holders.pop(port, None)
        for port in claim.ports:
            self._holders[port] = unit
        self._held[unit] = claim

    def full_cards(self, unit: str, claim: _Claim) -> frozenset[str]:
        """Name the cards that would hold more than they can; what takes no more than before is let in."""
        had = self._held.get(unit, NOTHING).cards
        growth = {card: mib - had.get(card, 0) for card, mib in claim.cards.items()}
        return frozenset(
            card for card, more in growth.items() if more > 0 and self._used.get(card, 0) + more > self._capacity[card]
        )

    def in_the_way(self, unit: str, claim: _Claim) -> frozenset[str]:
        """Name the units that hold its ports."""
        holders = (self._holders.get(port, unit) for port in claim.ports)
        return frozenset(holder for holder in holders if holder != unit)

    def has_room(self, unit: str, claim: _Claim) -> bool:
        """Say whether a unit can run by a claim now."""
        return not self.full_cards(unit, claim) and not self.in_the_way(unit, claim)


def schedule(both: Comparison, units: Mapping[str, UnitChange]) -> Schedule:
    """Order what happens to units; those that stop early do so before the new generation is current."""
    moving = tuple(unit for unit in both.desired.units if unit.unit in units and units[unit.unit].verb is not Verb.STOP)
    turns = tuple(unit.unit for unit in moving if _serves(unit.unit))
    going = frozenset(name for name, change in units.items() if change.verb is Verb.STOP)
    scene = _scene(both, units, turns, going)
    early, waves = set(going - scene.patient), None
    while waves is None:
        waves, blocking = _walk(scene, early)
        early |= blocking
    late = going - early
    if not any(map(is_instance, late)):
        early, late = early | late, frozenset()
    return Schedule(
        early=tuple(sorted(early, key=stop_rank)),
        waves=waves,
        late=tuple(sorted(late, key=stop_rank)),
        last=tuple(unit.unit for unit in moving if not _serves(unit.unit)),
    )


def _serves(unit: str) -> bool:
    """Say whether others wait for the unit's answers; the rest, targets above all, comes when all of these are up."""
    return unit in (BUS_UNIT, ROUTER_UNIT) or is_instance(unit)


def _scene(both: Comparison, units: Mapping[str, UnitChange], turns: tuple[str, ...], going: frozenset[str]) -> _Scene:
    up = [name for name, state in both.observed.units.items() if state.is_up]
    shares = {name: running_shares(name, both) for name in up if is_instance(name)}
    wanted = {name: desired_shares(name, both) for name in turns if is_instance(name)}
    all_shares = (share for side in (shares, wanted) for one in side.values() for share in one)
    desired = {unit.unit: unit for unit in both.desired.units}
    known = {unit.unit: unit for unit in both.observed.manifest.units} if both.observed.manifest else {}
    return _Scene(
        turns=turns,
        restarts=frozenset(name for name in turns if units[name].verb is Verb.RESTART),
        patient=_patient(both, turns, going),
        before={name: _claim(shares.get(name, ()), _ports_now(name, known, both)) for name in up},
        after={name: _claim(wanted.get(name, ()), frozenset(desired[name].ports)) for name in turns},
        # The newest word on how much a card holds stands last.
        capacity={share.card: share.capacity_mib for share in all_shares},
    )


def _patient(both: Comparison, turns: Sequence[str], going: frozenset[str]) -> frozenset[str]:
    """Name who may stop late: instances, and targets that would take them along, unless a new one conflicts with them.

    systemd stops at once what conflicts with what it starts; see Conflicts= in systemd.unit(5).
    """
    if not any(map(is_instance, turns)):
        return frozenset()
    rivals = {rival for name in turns for rival in _conflicts(name, both)}
    return frozenset(name for name in going - rivals if is_instance(name) or name.endswith(".target"))


def _conflicts(unit: str, both: Comparison) -> Sequence[str]:
    text = text_of(both.desired.tree.get(both.desired.layout.unit_path(unit)))
    return unit_keys(text).get("Unit.Conflicts", "").split()


def _claim(shares: Sequence[CardShare], ports: frozenset[int]) -> _Claim:
    return _Claim({share.card: share.used_mib for share in shares}, ports)


def _ports_now(unit: str, known: Mapping[str, DesiredUnit], both: Comparison) -> frozenset[int]:
    """Say what a unit that runs listens on: an instance by its environment, the bus and the router by the manifest."""
    if not is_instance(unit):
        return frozenset(known[unit].ports) if unit in known else frozenset()
    kept = remembered(unit, both)
    variables = kept.definition.environment if kept else environment(unit, both.observed.files, both.desired)
    port = variables.get(PORT, "")
    return frozenset((int(port),)) if port.isdecimal() else frozenset()


def _walk(scene: _Scene, early: AbstractSet[str]) -> tuple[tuple[tuple[str, ...], ...] | None, frozenset[str]]:
    """Go through all turns from the first stop on; None and who must stop early as well, where that does not work."""
    room = _Room(scene.capacity, {unit: claim for unit, claim in scene.before.items() if unit not in early})
    waves: list[tuple[str, ...]] = []
    held = [*sorted(scene.patient, key=stop_rank), *(unit for unit in scene.turns if unit in scene.restarts)]
    for _, section in groupby(scene.turns, key=lambda unit: "instances" if is_instance(unit) else unit):
        pending = list(section)
        while pending:
            wave = _next_wave(pending, scene, room, early)
            if not wave:
                helpers = tuple(_helpers(pending, [unit for unit in held if unit not in early], scene, room))
                if helpers:
                    # What goes away anyway stops early without any loss; of restarts, each one may be enough.
                    return None, frozenset(scene.patient.intersection(helpers) or helpers[:1])
                # Nobody would give way: the plan says that a card is to hold more than it can.
                wave = tuple(unit for unit in pending if _is_down(unit, scene, early)) or tuple(pending[:1])
            for unit in wave:
                room.take(unit, scene.after[unit])
            waves.append(wave)
            held = [unit for unit in held if unit not in wave]
            pending = [unit for unit in pending if unit not in wave]
    return tuple(waves), frozenset()


def _is_down(unit: str, scene: _Scene, early: Collection[str]) -> bool:
    return unit not in scene.restarts or unit in early


def _next_wave(pending: Sequence[str], scene: _Scene, room: _Room, early: Collection[str]) -> tuple[str, ...]:
    """Take all for which there is room and of which nothing runs, or one that restarts."""
    wave: list[str] = []
    for unit in pending:
        claim = scene.after[unit]
        if _is_down(unit, scene, early) and room.has_room(unit, claim):
            room.take(unit, claim)
            wave.append(unit)
    return tuple(wave) or tuple([unit for unit in pending if room.has_room(unit, scene.after[unit])][:1])


def _helpers(pending: Sequence[str], held: Collection[str], scene: _Scene, room: _Room) -> Iterator[str]:
    """Find, for each unit without room, one that would make some by stopping early."""
    asked: set[frozenset[str]] = set()
    for unit in pending:
        claim = scene.after[unit]
        in_the_way = sorted(room.in_the_way(unit, claim).intersection(held))
        yield from (other for other in in_the_way if not _keeps_port(other, claim, scene))
        full = room.full_cards(unit, claim)
        if full and full not in asked:
            asked.add(full)
            yield from [other for other in held if other != unit and _leaves(other, full, scene)][:1]


def _keeps_port(unit: str, claim: _Claim, scene: _Scene) -> bool:
    """Say whether a unit holds one of the ports afterwards as well."""
    return not scene.after.get(unit, NOTHING).ports.isdisjoint(claim.ports)


def _leaves(unit: str, cards: Collection[str], scene: _Scene) -> bool:
    """Say whether a unit takes less of one of the cards afterwards."""
    before, after = scene.before.get(unit, NOTHING).cards, scene.after.get(unit, NOTHING).cards
    return any(before.get(card, 0) > after.get(card, 0) for card in cards)
