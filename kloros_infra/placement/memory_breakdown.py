"""llama-server's memory breakdown → MeasuredLoad per device, and how far a placement is from it.

The table is printed with LLAMA_ARG_LOG_VERBOSITY=4 while LLAMA_ARG_FIT is on, before any weight is loaded (llama.cpp,
common/fit.cpp, common_memory_breakdown_print). It knows the model alone: neither projector nor draft model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.load_report import SeenDevice
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement.load_report import device_of

MIB = 2**20
TOLERANCE = 0.03
TOLERANCE_MIB = 64
"""A device's memory may differ by this share or this much, whichever is more."""

_TABLE = "memory breakdown [MiB]"
_ROW = re.compile(
    r"\|   - (?P<device>\S+)(?: \((?P<description>[^|]*)\))?[^|]*\|\s*"
    r"(?:(?P<total>\d+) = +(?P<free>\d+) \+ \( *)?\d+ = +(?P<weights>\d+) \+ +(?P<state>\d+) \+ +(?P<compute>\d+)"
)


def parse_breakdown(lines: Iterable[str]) -> tuple[MeasuredLoad, ...] | None:
    """Read the first whole table: the cards in llama-server's order, the CPU last; None where there is none.

    A table is whole when a line follows that is not of it.
    """
    rows: list[MeasuredLoad] = []
    is_in_table = False
    for line in lines:
        found = _ROW.search(line)
        if found and is_in_table:
            rows.append(_load(found))
        elif rows:
            return tuple(_joined(rows))
        is_in_table = is_in_table or _TABLE in line
    return None


def _load(row: re.Match[str]) -> MeasuredLoad:
    total, free = row["total"], row["free"]
    return MeasuredLoad(
        device=CPU if row["device"] == "Host" else device_of(row["device"]),
        weights_mib=int(row["weights"]),
        state_mib=int(row["state"]),
        compute_mib=int(row["compute"]),
        total_mib=int(total) if total else None,
        free_mib=int(free) if free else None,
        description=row["description"],
    )


def _joined(rows: Iterable[MeasuredLoad]) -> Iterator[MeasuredLoad]:
    """Add up the kinds of host memory, which have a row each."""
    host = MeasuredLoad(CPU, 0, 0, 0)
    for row in rows:
        if row.device != CPU:
            yield row
        else:
            host = replace(
                host,
                weights_mib=host.weights_mib + row.weights_mib,
                state_mib=host.state_mib + row.state_mib,
                compute_mib=host.compute_mib + row.compute_mib,
            )
    yield host


def seen_devices(measured: Iterable[MeasuredLoad]) -> tuple[SeenDevice, ...]:
    """Tell which devices the table speaks of; its host memory is none of them."""
    return tuple(
        SeenDevice(one.device, one.description, None if one.total_mib is None else one.total_mib * MIB)
        for one in measured
        if one.device != CPU
    )


def deviation_mib(load: DeviceLoad, measured: MeasuredLoad) -> float:
    """Say by how much a device was foreseen to take more than it does; what is beside the model is left out."""
    return (load.total_bytes - load.extra_bytes) / MIB - measured.used_mib


def is_as_foreseen(load: DeviceLoad, measured: MeasuredLoad) -> bool:
    """Say whether a device takes what was foreseen; each of three figures is rounded down."""
    lowest = deviation_mib(load, measured) - 3
    off = max(0.0, lowest, -deviation_mib(load, measured))
    return off <= max(TOLERANCE_MIB, TOLERANCE * measured.used_mib)


def breakdown_problems(placement: Placement, measured: Iterable[MeasuredLoad], address: str = "") -> Problems:
    """Compare a placement with what llama-server needs for it: both figures, and whether it fits."""
    by_device = {one.device: one for one in measured}
    return tuple(
        problem for load in placement.loads for problem in _of_a_device(load, by_device.get(load.device), address)
    )


def _of_a_device(load: DeviceLoad, measured: MeasuredLoad | None, address: str) -> Iterator[Diagnostic]:
    if measured is None:
        yield _not_there(load, address)
        return
    if not is_as_foreseen(load, measured):
        yield _differs(load, measured, address)
    needed = measured.used_mib + load.extra_bytes / MIB
    if load.capacity_bytes is not None and needed > load.capacity_bytes / MIB:
        yield _too_much(load, needed, address)


def _not_there(load: DeviceLoad, address: str) -> Diagnostic:
    return Diagnostic(
        code="KI431",
        summary="Device not used as planned",
        detail=f"llama-server does not speak of {_named(load)}, which the placement gives {load.layers} layers.",
        hint="Compare `llama-server --list-devices` with the profile: the driver, or CUDA_VISIBLE_DEVICES, hides it.",
        address=address,
    )


def _differs(load: DeviceLoad, measured: MeasuredLoad, address: str) -> Diagnostic:
    foreseen = (load.weights_bytes, load.kv_bytes, load.compute_bytes)
    found = (measured.weights_mib, measured.state_mib, measured.compute_mib)
    parts = ", ".join(
        f"{name} {size_bytes // MIB} and {mib}"
        for name, size_bytes, mib in zip(("weights", "keys and values", "compute"), foreseen, found, strict=True)
    )
    return Diagnostic(
        code="KI432",
        summary="Memory differs from the plan",
        detail=f"On {_named(load)} the plan foresees {sum(foreseen) // MIB} MiB and llama-server needs "
        f"{measured.used_mib} MiB ({parts}).",
        hint="Raise the card's `reserve` by the difference, and report the model with its llama.cpp build.",
        address=address,
    )


def _too_much(load: DeviceLoad, needed_mib: float, address: str) -> Diagnostic:
    have = (load.capacity_bytes or 0) // MIB
    return Diagnostic(
        code="KI433",
        summary="Plan does not fit",
        detail=f"On {_named(load)} llama-server needs {needed_mib:.0f} MiB for it, and {have} MiB are to be used.",
        hint="Give the model fewer context_tokens or another quantization, or raise the card's `reserve` so that less "
        "is placed there.",
        address=address,
    )


def _named(load: DeviceLoad) -> str:
    return f"{load.card} ({load.device})" if load.card else load.device
