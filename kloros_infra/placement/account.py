"""Placement → an account of each device, as people read it: what takes its memory, and which layers are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import HostMemory, Instance
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.costs import EXPERTS_MARK
from kloros_infra.placement.engines.interface import FIT

EXPERTS = "experts"
"""What leaves a layer's device as a rule."""


@dataclass(frozen=True, slots=True)
class DeviceAccount:
    """What takes the memory of one device; `total_bytes` is None where nobody says how much there is.

    `others_bytes` are what the other models that the profile starts take of it, `reserve_bytes` what is left to the
    desktop and the driver. `layers` are numbers of layers; the output head is told apart from them.
    """

    device: str
    card: str | None
    layers: tuple[int, ...]
    has_head: bool
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    extra_bytes: int
    others_bytes: int = 0
    reserve_bytes: int = 0
    total_bytes: int | None = None

    @property
    def name(self) -> str:
        return f"{self.card} ({self.device})" if self.card else self.device

    @property
    def used_bytes(self) -> int:
        """What the model itself takes."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.extra_bytes

    @property
    def free_bytes(self) -> int | None:
        """What is left to others; below nothing where it is too full."""
        if self.total_bytes is None:
            return None
        return self.total_bytes - self.used_bytes - self.others_bytes - self.reserve_bytes

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """List what a bar shows, in its order."""
        return (
            ("weights", self.weights_bytes),
            ("keys and values", self.kv_bytes),
            ("compute", self.compute_bytes),
            ("draft and projector", self.extra_bytes),
            ("other models", self.others_bytes),
            ("reserve", self.reserve_bytes),
            ("free", max(0, self.free_bytes or 0)),
        )


@dataclass(frozen=True, slots=True)
class Departure:
    """Tensors that are not with their layer: what they are, of which layers, where they are, and their bytes."""

    what: str
    layers: tuple[int, ...]
    device: str
    size_bytes: int


def accounts(
    instance: Instance, placement: Placement, *, memory: HostMemory, others: Iterable[Placement] = ()
) -> tuple[DeviceAccount, ...]:
    """Tell of each device, the CPU last; `others` are placements that are there at the same time."""
    reserved = {card.name: card.reserve_bytes for card in instance.profile.cards}
    whole = {card.name: card.vram_bytes for card in instance.profile.cards}
    taken = bytes_by_card(others)
    return tuple(
        DeviceAccount(
            device=load.device,
            card=load.card,
            layers=_layers_on(load.device, placement),
            has_head=placement.head_device == load.device,
            weights_bytes=load.weights_bytes,
            kv_bytes=load.kv_bytes,
            compute_bytes=load.compute_bytes,
            extra_bytes=load.extra_bytes,
            others_bytes=taken.get(load.card, 0),
            reserve_bytes=reserved.get(load.card or "", 0),
            total_bytes=memory.usable_bytes if load.card is None else whole[load.card],
        )
        for load in placement.loads
    )


def bytes_by_card(placements: Iterable[Placement]) -> Mapping[str | None, int]:
    """Add up what placements take of each card, contexts included, and of the host (None).

    What `fit` will take is not known.
    """
    found: Counter[str | None] = Counter()
    for placement in placements:
        for load in placement.loads if placement.engine != FIT else ():
            found[load.card] += load.total_bytes + (CONTEXT_BYTES if load.card else 0)
    return found


def neighbours(
    id: InstanceId, instances: Iterable[Instance], placements: Mapping[InstanceId, Placement]
) -> tuple[Placement, ...]:
    """List the placements of what the same profile starts by itself, beside one instance."""
    started = (one.id for one in instances if one.serving.preload and one.id != id and one.profile.name == id.profile)
    return tuple(placements[one] for one in started if one in placements)


def _layers_on(device: str, placement: Placement) -> tuple[int, ...]:
    return tuple(layer for layer, name in enumerate(placement.layer_devices[:-1]) if name == device)


def departures(header: GgufHeader, placement: Placement) -> tuple[Departure, ...]:
    """List what is not with its layer, gathered by what it is and where it is."""
    rules = [(re.compile(one.pattern), one.device) for one in placement.exceptions]
    found: Counter[tuple[str, str]] = Counter()
    layers: dict[tuple[str, str], set[int]] = {}
    for what, layer, size_bytes, name in _of_layers(header):
        device = next((device for pattern, device in rules if pattern.search(name)), None)
        if device is not None and device != placement.layer_devices[layer]:
            found[what, device] += size_bytes
            layers.setdefault((what, device), set()).add(layer)
    return tuple(
        Departure(what, tuple(sorted(layers[what, device])), device, size_bytes)
        for (what, device), size_bytes in sorted(found.items())
    )


def _of_layers(header: GgufHeader) -> Iterator[tuple[str, int, int, str]]:
    for group in header.tensors:
        what = EXPERTS if EXPERTS_MARK in group.name else group.name.removeprefix("blk.*.").partition(".")[0]
        for layer in group.layers or ():
            yield what, layer, group.size_bytes, group.name.replace("*", str(layer), 1)


def runs_text(numbers: Sequence[int]) -> str:
    """Write ascending numbers as runs: 0 to 11 and 20 are `0-11, 20`."""
    runs = []
    for _, group in groupby(enumerate(numbers), lambda numbered: numbered[1] - numbered[0]):
        run = [number for _, number in group]
        runs.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(runs)
