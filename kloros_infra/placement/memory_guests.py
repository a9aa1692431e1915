"""What a card computes with matrices of layers that are on another: single steps, beside those of its own layers.

llama.cpp computes a step where its weights are (ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph): what goes
in is copied there, and what comes out stays until the next step has it. Experts are counted with their layers
(`placement.memory_roles`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.memory_roles import EXPERTS_MARK, TensorPlaces, largest_lent_bytes
from kloros_infra.placement.workload import Workload

_VALUE_BYTES = 4
_UP, _GATE, _DOWN = "ffn_up.weight", "ffn_gate.weight", "ffn_down.weight"


def guest_bytes(header: GgufHeader, work: Workload, places: TensorPlaces) -> Mapping[str, int]:
    """Say what the widest of such layers takes in the compute buffer of each card that has one."""
    found: Counter[str] = Counter()
    for (device, _), groups in _guests(header, places).items():
        found[device] = max(found[device], _VALUE_BYTES * work.step_tokens * _values(groups))
    return found


def lent_again_bytes(header: GgufHeader, places: TensorPlaces) -> int:
    """Say what the first card takes for a second of the CPU's matrices.

    Measured: where all experts of a layer are the CPU's, and something else of that layer is another card's, the copy
    of one is still there when that of the next one comes.
    """
    away = {layer for _, layer in _guests(header, places)}
    if not away:
        return 0
    on_cpu = _layers_with_all_experts_on_cpu(header, places)
    return largest_lent_bytes(header, places) if away & on_cpu else 0


def _layers_with_all_experts_on_cpu(header: GgufHeader, places: TensorPlaces) -> set[int]:
    rules = [(re.compile(one.pattern), one.device) for one in places.exceptions]
    found: dict[int, bool] = {}
    for group in header.tensors:
        for layer in group.layers or () if EXPERTS_MARK in group.name else ():
            name = group.name.replace("*", str(layer), 1)
            where = next((device for pattern, device in rules if pattern.search(name)), places.layer_devices[layer])
            found[layer] = found.get(layer, True) and where == CPU
    return {layer for layer, is_there in found.items() if is_there}


def _guests(header: GgufHeader, places: TensorPlaces) -> Mapping[tuple[str, int], Collection[TensorGroup]]:
    """Find the matrices that are not with their layer, by card and layer."""
    rules = [(re.compile(one.pattern), one.device) for one in places.exceptions]
    found: defaultdict[tuple[str, int], list[TensorGroup]] = defaultdict(list)
    for group in header.tensors:
        if len(group.shape) < 2 or EXPERTS_MARK in group.name:
            continue
        for layer in group.layers or ():
            name = group.name.replace("*", str(layer), 1)
            device = next((device for pattern, device in rules if pattern.search(name)), None)
            if device not in (None, CPU, places.layer_devices[layer]):
                found[str(device), layer].append(group)
    return found


def _values(groups: Collection[TensorGroup]) -> int:
    """Count what a token needs there: what goes into each step, and what comes out.

    Measured: three times the width of a feed-forward layer and twice that of a token for all of it, once each for its
    gate alone. Where gate and up are there, so is their product, which goes into down.
    """
    inputs = {group.shape[0] for group in groups}
    kinds = {group.name.removeprefix("blk.*."): group for group in groups}
    product = kinds[_UP].shape[1] if {_UP, _GATE} <= kinds.keys() and _DOWN not in kinds else 0
    return sum(inputs) + sum(group.shape[1] for group in groups) + product
