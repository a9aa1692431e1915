"""Predict the bytes that llama-server takes on each device: weights, state, compute.

Weights are exact, and so are keys, values and states; compute buffers are an estimate. All of it is held against what
llama-server itself foresees for models of many families (`python -m benchmarks.placement_memory`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import DeviceLoad, TensorException
from kloros_infra.placement.architectures import ENCODERS
from kloros_infra.placement.memory_compute import compute_bytes
from kloros_infra.placement.memory_roles import Role, TensorPlaces, largest_lent_bytes, roles
from kloros_infra.placement.memory_state import kv_by_layer, slides
from kloros_infra.placement.memory_weights import weights_by_device
from kloros_infra.placement.workload import DEFAULT_MICRO_BATCH, Workload, workload

__all__ = [
    "DEFAULT_MICRO_BATCH",
    "ENCODERS",
    "Role",
    "TensorPlaces",
    "Workload",
    "compute_bytes",
    "kv_by_layer",
    "lent_weights_bytes",
    "model_loads",
    "roles",
    "slides",
    "weights_by_device",
    "workload",
]


def lent_weights_bytes(
    header: GgufHeader, device: str, layer_devices: Sequence[str], exceptions: Sequence[TensorException] = ()
) -> int:
    """Say what a card keeps free for the largest of the CPU's matrices: the first card does, the others nothing."""
    places = TensorPlaces(tuple(layer_devices), tuple(exceptions))
    return largest_lent_bytes(header, places) if places.all_cards[:1] == (device,) else 0


def model_loads(
    header: GgufHeader,
    work: Workload,
    layer_devices: Sequence[str],
    exceptions: Sequence[TensorException] = (),
    *,
    devices: Sequence[str] = (),
) -> tuple[DeviceLoad, ...]:
    """Say what a model takes on each card, those without a layer too, and last on the CPU.

    `devices` are the cards in the order that llama-server is told, by default that of their layers.
    """
    places = TensorPlaces(tuple(layer_devices), tuple(exceptions), tuple(devices))
    weights = weights_by_device(header, layer_devices, exceptions)
    kv: Counter[str] = Counter()
    for device, size_bytes in zip(layer_devices, kv_by_layer(header, work), strict=False):
        kv[device] += size_bytes
    counts = Counter(layer_devices[:-1])
    return tuple(
        DeviceLoad(
            device=device,
            card=None,
            layers=counts[device],
            weights_bytes=weights.get(device, 0),
            kv_bytes=kv[device],
            compute_bytes=compute_bytes(header, work, role),
            capacity_bytes=None,
        )
        for device, role in roles(header, places).items()
    )
