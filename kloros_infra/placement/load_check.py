"""Placement + LoadReport → Problems: is what was loaded where it was placed?

A server answers /health as well when it found no GPU and runs on the processor. Weights, keys and values are foreseen
to the byte (`placement.memory`), so they are compared closely; a total holds estimates and is compared with room.
Where llama-server places by itself (`placement: fit`), only what holds for every placement is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.load_report import BufferKind, LoadedModel, LoadReport
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement import load_problems as problems
from kloros_infra.placement.engines.interface import FIT
from kloros_infra.placement.taken_over import takes_over_all

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two figures may lie: by a share of the one foreseen, and by so many bytes beside it."""

    share: float
    margin_bytes: int

    def room_bytes(self, foreseen_bytes: int) -> int:
        return round(foreseen_bytes * self.share) + self.margin_bytes

    def allows(self, foreseen_bytes: int, found_bytes: int) -> bool:
        return abs(found_bytes - foreseen_bytes) <= self.room_bytes(foreseen_bytes)


KNOWN = Tolerance(share=0.01, margin_bytes=MIB)
"""For weights, keys and values: padding to whole cells, and figures printed in hundredths of a MiB."""
ESTIMATED = Tolerance(share=0.1, margin_bytes=64 * MIB)
"""For totals: compute buffers are estimated."""
SPLITS_BEYOND = 3
"""So many graph splits may be beyond those foreseen: builds differ in where they put an input or an output."""
CUDA_CONTEXT_BYTES = 1024 * MIB
"""What a process has on a card beside its buffers: CUDA's context, kernels and pools, 300 to 600 MiB as a rule."""


def compare(placement: Placement, report: LoadReport, *, tolerance: Tolerance = ESTIMATED) -> Problems:
    """Say in what a server that was started by `placement` is not as placed; `tolerance` is that of totals."""
    model = report.main
    if model is None:
        return (problems.no_load_report(),)
    if not placement.is_cpu_only and not model.gpus:
        return (problems.runs_on_the_cpu(placement, model, report),)
    return (
        *_places(placement, model),
        *_settings(placement, model, report),
        *_totals(placement, report, tolerance),
    )


def compare_cards(placement: Placement, used_bytes: Mapping[str, int], *, tolerance: Tolerance = ESTIMATED) -> Problems:
    """Say which cards hold less or more of a server's process than was placed there; `used_bytes` by device.

    A device that is absent was not asked about.
    """
    return tuple(
        problems.card_holds_other(load, used_bytes[load.device])
        for load in placement.loads
        if load.device in used_bytes and not _is_plausible(load, used_bytes[load.device], tolerance)
    )


def _is_plausible(load: DeviceLoad, used_bytes: int, tolerance: Tolerance) -> bool:
    least = load.weights_bytes + load.kv_bytes
    most = load.total_bytes + CUDA_CONTEXT_BYTES
    return least - tolerance.room_bytes(least) <= used_bytes <= most + tolerance.room_bytes(load.total_bytes)


def _places(placement: Placement, model: LoadedModel) -> Problems:
    """Compare weights, keys and values device by device; the CPU's weights cannot be told from a mapped file's."""
    if placement.engine == FIT:
        return ()
    foreseen = {load.device: load for load in placement.loads}
    devices = sorted({*foreseen, *model.gpus})
    return tuple(problem for device in devices for problem in _place(device, foreseen.get(device), model))


def _place(device: str, load: DeviceLoad | None, model: LoadedModel) -> Problems:
    weights, state = (model.bytes_on(device, kind) for kind in (BufferKind.WEIGHTS, BufferKind.STATE))
    placed_weights, placed_state = (load.weights_bytes, load.kv_bytes) if load else (0, 0)
    found = []
    if device != CPU and not KNOWN.allows(placed_weights, weights):
        found.append(problems.weights_elsewhere(device, load, weights, model))
    if not KNOWN.allows(placed_state, state):
        found.append(problems.state_elsewhere(device, load, state))
    return tuple(found)


def _settings(placement: Placement, model: LoadedModel, report: LoadReport) -> Problems:
    found = []
    if model.has_flash_attention is False:
        found.append(problems.no_flash_attention(report.notes))
    if model.slot_context_tokens is not None and model.slot_context_tokens < placement.context_tokens:
        found.append(problems.less_context(placement.context_tokens, model.slot_context_tokens))
    if placement.engine != FIT and model.graph_splits is not None:
        found += _splits(placement, model.graph_splits)
    return tuple(found)


def _splits(placement: Placement, found: int) -> Iterator[Diagnostic]:
    """Compare the turns that devices take; where no GPU works, a library for matrices counts as a device of its own.

    With all layers on cards they are foreseen to the last one. Of a layer of the CPU, steps may go to a card that
    nobody knows of: that costs time, and is no reason to go back.
    """
    if takes_over_all(placement):
        return
    foreseen, on_gpus = _runs(placement), sum(device != CPU for device in placement.layer_devices)
    if on_gpus and found > foreseen + SPLITS_BEYOND:
        is_foreseen = placement.predicted is not None and CPU not in placement.layer_devices
        yield problems.many_splits(foreseen, found, is_error=is_foreseen)


def _runs(placement: Placement) -> int:
    """Count how often the work changes hands for one token; it begins with the token embedding, on the CPU."""
    if placement.predicted is not None:
        return placement.predicted.splits
    return sum(1 for _ in groupby((CPU, *placement.layer_devices)))


def _totals(placement: Placement, report: LoadReport, tolerance: Tolerance) -> Iterator[Diagnostic]:
    if placement.engine == FIT:
        return
    found = report.total_bytes()
    for load in placement.loads:
        # Of the CPU's memory a mapped file's pages are not known, and it is not what runs out.
        room = tolerance.room_bytes(load.total_bytes)
        if load.device != CPU and found.get(load.device, 0) > load.total_bytes + room:
            yield problems.more_memory(load, found[load.device])
