"""The declared cards as this machine has them: for a plan or a compile that takes them so, and for who watches them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.driver_files import seen_devices
from kloros_infra.adapters.pci import PROCFS, SYSFS
from kloros_infra.cli.locking import parse_project
from kloros_infra.cli.project import Project
from kloros_infra.compiler.hardware import figures_of_gpu, local_hosts
from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.ir.card_facts import DeclaredCard, DriverReading
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import GpuSpec
from kloros_infra.ir.detected_card import DetectedCard, SeenDevice
from kloros_infra.ir.names import as_name, unused
from kloros_infra.placement.card_table import MIB, figures_of, short_name
from kloros_infra.topology.hardware import (
    CompiledCard,
    HardwareChange,
    detected_cards,
    hardware_changes,
    undeclared,
)


@dataclass(frozen=True, slots=True)
class Detected:
    """The declared cards that are there, and what is to be said of others."""

    cards: tuple[DetectedCard, ...]
    problems: Problems


def detect(project: Project, *, sysfs: Path = SYSFS, procfs: Path = PROCFS) -> Detected:
    """Find the cards that a project declares of this machine; raise ProblemsError where it cannot be read."""
    config = parse_project(project)[0].config
    compiled = tuple(_declared(config))
    devices = seen_devices(sysfs, procfs)
    reading = _read(compiled, devices, sysfs, procfs)
    cards = detected_cards(compiled, devices, reading.cards)
    changes = hardware_changes(compiled, devices, reading.cards)
    others = undeclared(compiled, devices)
    problems = (
        *reading.problems,
        *_silence(reading),
        *_otherwise(config, cards, changes),
        *_undeclared(config, others),
    )
    return Detected(cards, problems)


def _declared(config: Config) -> Iterator[CompiledCard]:
    local = local_hosts(config)
    for name, gpu in config.gpus.items():
        if gpu.host in local:
            figures = figures_of_gpu(name, gpu)
            yield CompiledCard(name, gpu.uuid, gpu.pci, figures.vram_bytes if figures else 0)


def _read(compiled: Sequence[CompiledCard], devices: Sequence[SeenDevice], sysfs: Path, procfs: Path) -> DriverReading:
    """Ask the driver, of each card by what it is there."""
    from kloros_infra.adapters.nvml_facts import NvmlFacts  # noqa: PLC0415 - start-up time

    there = {card.name: DeclaredCard(card.name, card.uuid, card.pci) for card in compiled}
    there |= {one.name: DeclaredCard(one.name, one.uuid, one.pci) for one in detected_cards(compiled, devices)}
    return NvmlFacts(sysfs=sysfs, procfs=procfs).read(tuple(there.values()))


def _silence(reading: DriverReading) -> Iterator[Diagnostic]:
    """Say that nothing is known of the cards, where the driver's own problem does not."""
    if reading.trouble and not reading.problems:
        yield Diagnostic(
            code="KI926",
            summary="Cards cannot be asked",
            detail=f"How the cards are cannot be told: {reading.trouble}. What models.yaml says of them holds.",
            hint="See with `nvidia-smi` whether the driver is loaded.",
            severity=Severity.WARNING,
        )


def _otherwise(
    config: Config, cards: Sequence[DetectedCard], changes: Sequence[HardwareChange]
) -> Iterator[Diagnostic]:
    """Say which declared cards are not as they are written, and what to write."""
    found = {card.name: card for card in cards}
    for name in dict.fromkeys(change.card for change in changes if change.card):
        words = "; ".join(change.words for change in changes if change.card == name)
        written = ", ".join(_written(config.gpus[name], found[name]))
        yield Diagnostic(
            code="KI928",
            summary="Card that is not as it is declared",
            detail=f"{words[0].upper()}{words[1:]}.",
            hint=f"Write in gpus.{name}: {written}. Until then plans without --detected go back to what is there.",
            severity=Severity.WARNING,
            address=f"gpus.{name}",
        )


def _written(gpu: GpuSpec, card: DetectedCard) -> Iterator[str]:
    """Give what differs as models.yaml writes it."""
    if card.uuid not in (None, gpu.uuid):
        yield f"uuid: {card.uuid}"
    if card.pci not in (None, gpu.pci):
        yield f"pci: {json.dumps(card.pci)}"
    if card.has_replaced and card.model:
        yield f"name: {json.dumps(card.model)}, with its figures or none"
    if card.total_bytes is not None:
        yield f"vram: {card.total_bytes // MIB}MiB"


def _undeclared(config: Config, devices: Sequence[SeenDevice]) -> Iterator[Diagnostic]:
    names = set(config.gpus)
    for device in devices:
        name = unused(as_name(short_name(device.model or "")) or "gpu", names)
        names.add(name)
        yield Diagnostic(
            code="KI925",
            summary="Card that models.yaml does not declare",
            detail=f"{device.model or 'A card'} at {device.pci} is in this machine, and nothing uses it.",
            hint="Add this under `gpus`, with `shared_with: …` if it is for others, else with its name in a profile: "
            + _line(name, device, config),
            severity=Severity.WARNING,
        )


def _line(name: str, device: SeenDevice, config: Config) -> str:
    """Write the card as models.yaml declares it, on one line."""
    values = {
        "host": local_hosts(config)[0],
        "uuid": device.uuid,
        "pci": json.dumps(device.pci),
        "name": json.dumps(device.model) if device.model else None,
    }
    if figures_of(device.model or name) is None:
        values |= {"vram": "…", "bandwidth": "…", "compute_capability": "…"}
    written = ", ".join(f"{key}: {value}" for key, value in values.items() if value is not None)
    return f"{name}: {{{written}}}"
