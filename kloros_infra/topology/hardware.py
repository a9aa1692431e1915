"""What differs between the cards that are there and those that a generation was compiled for.

A card that is not there is no difference: cards come and go, and that is what profiles are for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kloros_infra.ir.card_facts import CardReading
from kloros_infra.ir.detected_card import DetectedCard, SeenDevice, has_other_memory
from kloros_infra.topology.standing import in_gib

_HIDDEN = "?"
"""Stands in the driver's files for what it has not read from a card yet: GPU-????????-…"""


@dataclass(frozen=True, slots=True)
class CompiledCard:
    """A card of this host as a generation was compiled for it; `vram_bytes` is what CUDA sees, 0 where not known."""

    name: str
    uuid: str | None
    pci: str | None
    vram_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HardwareChange:
    """One difference in words, of a declared card or (with an empty name) of another one.

    Where it `is_mendable`, a compile for the cards that are there takes it up.
    """

    card: str
    words: str
    is_mendable: bool


def detected_cards(
    compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice], readings: Sequence[CardReading] = ()
) -> tuple[DetectedCard, ...]:
    """Find the declared cards that are there, and say how they are."""
    known, read = _known(devices), {reading.card: reading for reading in readings}
    found = ((card, _device(card, compiled, known), read.get(card.name)) for card in compiled)
    return tuple(_detected(card, device, reading) for card, device, reading in found if device or reading)


def undeclared(compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice]) -> tuple[SeenDevice, ...]:
    """Find the cards that nobody has declared, by address; those of a virtual machine are not ours to use."""
    known = _known(devices)
    found = {card.name: _device(card, compiled, known) for card in compiled}
    taken = {device.pci for device in found.values() if device}
    # One that the driver has not read yet may be any that is declared by UUID alone.
    is_unclear = any(card.pci is None and found[card.name] is None for card in compiled)
    others = (device for device in known if device.is_usable and device.pci not in taken)
    return tuple(device for device in others if device.uuid or not is_unclear)


def hardware_changes(
    compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice], readings: Sequence[CardReading]
) -> tuple[HardwareChange, ...]:
    """Say what differs, card by card as they are declared, then what is not declared."""
    detected = {card.name: card for card in detected_cards(compiled, devices, readings)}
    indices = _indices(compiled, devices)
    changes = [
        change
        for card in compiled
        if card.name in detected
        for change in _changes(card, detected[card.name], indices.get(card.name))
    ]
    return (*changes, *map(_undeclared, undeclared(compiled, devices)))


def remembered(
    changes: Sequence[HardwareChange], before: Sequence[HardwareChange], told: Collection[str]
) -> tuple[HardwareChange, ...]:
    """Add what was known of cards that nobody tells of now: a card that is away is taken to be as it was."""
    kept = (one for one in before if one.card and one.card not in told and one not in changes)
    return (*changes, *kept)


def _changes(card: CompiledCard, found: DetectedCard, indices: tuple[int, int] | None) -> Iterator[HardwareChange]:
    if found.has_replaced:
        called = ", ".join(one for one in (found.model, found.uuid) if one)
        yield HardwareChange(
            card.name, f"in the place of {card.name}, {card.pci}, there is another card: {called}", True
        )
    elif card.pci is not None and found.pci != card.pci:
        yield HardwareChange(card.name, f"{card.name} is at {found.pci}, and was at {card.pci}", True)
    is_same = card.uuid is not None and not found.has_replaced
    if found.total_bytes and card.vram_bytes and has_other_memory(card.vram_bytes, found.total_bytes, is_same=is_same):
        has, had = in_gib(found.total_bytes), in_gib(card.vram_bytes)
        yield HardwareChange(card.name, f"{card.name} has {has} of memory, and was declared with {had}", True)
    if indices is not None:
        declared, there = indices
        words = f"{card.name} is shown to models by its place, {declared}, and has place {there} now"
        yield HardwareChange(card.name, words, found.uuid is not None)


def _undeclared(device: SeenDevice) -> HardwareChange:
    called = device.model or device.uuid or "a card"
    return HardwareChange("", f"{called} at {device.pci} is not in models.yaml", False)


def _known(devices: Sequence[SeenDevice]) -> tuple[SeenDevice, ...]:
    """Order the cards as CUDA does, without UUIDs that the driver does not know yet."""
    plain = (
        SeenDevice(one.pci, None, one.model, one.is_usable) if one.uuid and _HIDDEN in one.uuid else one
        for one in devices
    )
    return tuple(sorted(plain, key=lambda one: one.pci))


def _device(card: CompiledCard, compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice]) -> SeenDevice | None:
    """Find a declared card on the bus: by UUID wherever it is, else in its place unless another declared one is."""
    by_uuid = {device.uuid: device for device in devices if device.uuid}
    if card.uuid in by_uuid:
        return by_uuid[card.uuid]
    others = {one.uuid for one in compiled if one.uuid and one.name != card.name}
    in_place = (device for device in devices if device.pci == card.pci and device.uuid not in others)
    return next(in_place, None)


def _detected(card: CompiledCard, device: SeenDevice | None, reading: CardReading | None) -> DetectedCard:
    """Put together what the bus and the driver say; a reading is of the card that was asked for by name."""
    seen = device or SeenDevice(card.pci or "")
    has_replaced = None not in (card.uuid, seen.uuid) and card.uuid != seen.uuid
    total_bytes = reading.total_bytes if reading else None
    uuid, pci = (reading.uuid, reading.pci) if reading else (None, None)
    return DetectedCard(
        name=card.name,
        uuid=seen.uuid or uuid or card.uuid,
        pci=seen.pci or pci or card.pci,
        total_bytes=total_bytes,
        model=seen.model,
        has_replaced=has_replaced,
    )


def _indices(compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice]) -> Mapping[str, tuple[int, int]]:
    """Give the places, declared and real, of cards that go by their place in PCI order and have another one now."""
    there = [device.pci for device in _known(devices) if device.is_usable]
    declared = [card.name for card in sorted(compiled, key=lambda one: (one.pci is None, one.pci or "", one.name))]
    places = {
        card.name: (declared.index(card.name), there.index(card.pci))
        for card in compiled
        if card.uuid is None and card.pci in there
    }
    return {name: both for name, both in places.items() if both[0] != both[1]}
