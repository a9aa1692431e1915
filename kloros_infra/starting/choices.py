"""Facts → what the first models.yaml shall say: names, profiles, a model, ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from kloros_infra.compiler.instance_ports import FIRST_PORT
from kloros_infra.ir.names import as_name, unused
from kloros_infra.ir.written import PCI_PATTERN, PROGRAM_PATTERN, UUID_PATTERN
from kloros_infra.placement.card_table import figures_of, short_name
from kloros_infra.starting.facts import FoundCard, MachineFacts
from kloros_infra.starting.starter_models import GIB, Starter, choose_starter

RESERVE_BYTES = GIB // 2
"""What `defaults.reserve` is where nothing is said."""

# For a card of which nothing is known: too little rather than too much, so that what is planned also runs.
GUESSED_VRAM_BYTES = 4 * GIB
GUESSED_BANDWIDTH = 100 * 10**9
GUESSED_CAPABILITY = (7, 5)

BRIDGE_PORT = 11434
BUS_PORTS = (5556, 5557)
CPU_ONLY = "cpu_only"


@dataclass(frozen=True, slots=True)
class DeclaredCard:
    """A card as models.yaml will declare it; `doubts` names the figures that the machine did not tell."""

    name: str
    title: str
    uuid: str | None
    pci: str | None
    vram_bytes: int
    bandwidth_bytes_per_s: int
    compute_capability: tuple[int, int]
    doubts: tuple[str, ...]
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredProfile:
    """A profile, its memory, and the port of the model under it; None where the model does not fit."""

    name: str
    cards: tuple[DeclaredCard, ...]
    room_bytes: int
    port: int | None


@dataclass(frozen=True, slots=True)
class Choices:
    """What the first models.yaml says; `left_out` are cards that cannot be used, with the reason."""

    host: str
    llama_server: str | None
    cards: tuple[DeclaredCard, ...]
    left_out: tuple[tuple[FoundCard, str], ...]
    profiles: tuple[DeclaredProfile, ...]
    starter: Starter
    bridge_port: int
    is_bus_there: bool


def choose(facts: MachineFacts) -> Choices:
    """Decide everything that the text leaves open."""
    judged = [(card, obstacle_of(card)) for card in facts.cards]
    cards = _declared([card for card, obstacle in judged if not obstacle])
    sets = dict(_profile_sets(cards))
    rooms = {name: room_bytes(members, facts.memory_bytes) for name, members in sets.items()}
    starter = choose_starter(tuple(rooms.values()), facts.packaged_weights)
    ports = (port for port in count(FIRST_PORT) if port not in facts.ports_in_use)
    servers = [one for one in facts.llama_servers if re.fullmatch(PROGRAM_PATTERN, one)]
    return Choices(
        host=as_name(facts.host_name) or "localhost",
        llama_server=servers[0] if servers else None,
        cards=cards,
        left_out=tuple((card, obstacle) for card, obstacle in judged if obstacle),
        profiles=tuple(
            DeclaredProfile(name, members, rooms[name], next(ports) if _has_room(name, rooms[name], starter) else None)
            for name, members in sets.items()
        ),
        starter=starter,
        bridge_port=next(port for port in count(BRIDGE_PORT) if port not in facts.ports_in_use),
        is_bus_there=any(port in facts.ports_in_use for port in BUS_PORTS),
    )


def obstacle_of(card: FoundCard) -> str:
    """Say why a card cannot be declared; empty when it can."""
    if card.obstacle:
        return card.obstacle
    if _identity(card) == (None, None):
        return "neither its UUID nor its PCI address is known"
    # Unknown is None; such a card is declared with a guess.
    if card.vram_bytes is not None and card.vram_bytes <= RESERVE_BYTES:
        return "it has no more memory than is kept for the desktop"
    return ""


def room_bytes(cards: tuple[DeclaredCard, ...], memory_bytes: int) -> int:
    """Say what a profile can hold: its best card, or most of all of them; half of the memory without cards."""
    if not cards:
        return memory_bytes // 2
    usable = [max(0, card.vram_bytes - RESERVE_BYTES) for card in cards]
    # Each further card has buffers of its own, and layers do not divide evenly.
    return max(*usable, sum(usable) * 3 // 4)


def _has_room(profile: str, room: int, starter: Starter) -> bool:
    return profile == CPU_ONLY or room >= starter.needs_bytes


def _identity(card: FoundCard) -> tuple[str | None, str | None]:
    """Give UUID and PCI address in the forms that models.yaml takes."""
    uuid = card.uuid if card.uuid and re.fullmatch(UUID_PATTERN, card.uuid) else None
    pci = card.pci if card.pci and re.fullmatch(PCI_PATTERN, card.pci) else None
    return uuid, pci


def _declared(found: list[FoundCard]) -> tuple[DeclaredCard, ...]:
    """Name the cards and complete their figures; the best comes first."""
    names: set[str] = set()
    cards = []
    for card in found:
        name = unused(as_name(short_name(card.name or "")) or "gpu", names)
        names.add(name)
        cards.append(_declare(name, card))
    return tuple(sorted(cards, key=lambda one: (-one.bandwidth_bytes_per_s, -one.vram_bytes, one.pci or "", one.name)))


def _declare(name: str, card: FoundCard) -> DeclaredCard:
    known = figures_of(card.name or "")
    asked = {
        "vram": card.vram_bytes,
        "bandwidth": card.bandwidth_bytes_per_s or None,
        "compute_capability": card.compute_capability,
    }
    doubts = tuple(key for key, value in asked.items() if value is None)
    uuid, pci = _identity(card)
    return DeclaredCard(
        name=name,
        title=card.name or "a card without a name",
        uuid=uuid,
        pci=pci,
        vram_bytes=card.vram_bytes or (known.memory_bytes // GIB * GIB if known else GUESSED_VRAM_BYTES),
        bandwidth_bytes_per_s=card.bandwidth_bytes_per_s
        or (known.bandwidth_bytes_per_s if known else GUESSED_BANDWIDTH),
        compute_capability=card.compute_capability or (known.compute_capability if known else GUESSED_CAPABILITY),
        doubts=doubts,
        doubt="from its data sheet" if known else "a cautious guess: correct it from the card's data sheet",
    )


def _profile_sets(cards: tuple[DeclaredCard, ...]) -> Iterator[tuple[str, tuple[DeclaredCard, ...]]]:
    """List sets of cards, best first: all, all but one for each, and none."""
    used = {"max", CPU_ONLY}
    if cards:
        yield "max", cards
    if len(cards) > 1:
        # What is left is best where the least card is missing.
        for missing in sorted(cards, key=lambda one: (one.vram_bytes, one.bandwidth_bytes_per_s, one.name)):
            # A profile's name has no hyphen and 32 characters at most.
            name = _unused_profile(re.sub(r"[^a-z0-9]", "_", f"without_{missing.name}")[:28], used)
            used.add(name)
            yield name, tuple(card for card in cards if card != missing)
    yield CPU_ONLY, ()


def _unused_profile(name: str, used: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in count(2))
    return name if name not in used else next(one for one in numbered if one not in used)
