"""Add up the weights on each device: exact, with the exceptions that leave their layer's device.

llama.cpp, src/llama-model.cpp (load_tensors) and src/llama-model-loader.cpp (create_tensor): a layer's tensors go to
its device, those of the input to host memory, those of the output to the head's device.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.architectures import ENCODERS, SKIPS_PROPOSING_WEIGHTS

_EMBEDDING = "token_embd.weight"
# The input layer's tensors stay in host memory whatever is offloaded (src/llama-arch.cpp, LLM_TENSOR_LAYER_INPUT).
_INPUT = ("token_embd.", "token_types.", "position_embd.", "per_layer_token_embd.")
# They have no layer in their name and belong to the first (LLM_TENSOR_LAYER_REPEATING).
_FIRST_LAYER = ("token_embd_norm.", "rope_freqs.", "rope_factors_", "per_layer_model_proj.", "per_layer_proj_norm.")

Pieces = Iterator[tuple[str, TensorGroup, int]]


def weights_by_device(
    header: GgufHeader, layer_devices: Sequence[str], exceptions: Sequence[TensorException] = ()
) -> Mapping[str, int]:
    """Add up the weights on each device; a head that reuses the token embedding has a copy of it."""
    found: Counter[str] = Counter()
    for device, group, count in pieces(header, layer_devices, exceptions):
        found[device] += group.size_bytes * count
    return found


def pieces(header: GgufHeader, layer_devices: Sequence[str], exceptions: Sequence[TensorException] = ()) -> Pieces:
    """Say which tensors are on which device: the device, their group, and how many of it are there."""
    rules = [(re.compile(one.pattern), one.device) for one in exceptions]
    for group in header.tensors:
        if group.layers is None:
            device = _device_outside(group.name, layer_devices)
            yield _excepted(group.name, rules) or device, group, 1
            if group.name == _EMBEDDING and _has_copy(header, layer_devices[-1]):
                yield _excepted(group.name, rules) or layer_devices[-1], group, 1
        else:
            yield from _of_layers(group, _loaded(header, group), layer_devices, rules)


def _of_layers(
    group: TensorGroup,
    layers: Sequence[int],
    layer_devices: Sequence[str],
    rules: Sequence[tuple[re.Pattern[str], str]],
) -> Pieces:
    if not rules:
        counts = Counter(layer_devices[layer] for layer in layers)
    else:
        names = ((layer, group.name.replace("*", str(layer), 1)) for layer in layers)
        counts = Counter(_excepted(name, rules) or layer_devices[layer] for layer, name in names)
    for device, count in counts.items():
        yield device, group, count


def _loaded(header: GgufHeader, group: TensorGroup) -> Sequence[int]:
    """Leave out the blocks that propose tokens, where llama.cpp does not load them."""
    layers = group.layers or ()
    if not header.proposing_layers or header.architecture not in SKIPS_PROPOSING_WEIGHTS:
        return layers
    end = header.layer_count - header.proposing_layers
    return tuple(layer for layer in layers if layer < end)


def _device_outside(name: str, layer_devices: Sequence[str]) -> str:
    if name.startswith(_INPUT):
        return CPU
    return layer_devices[0] if name.startswith(_FIRST_LAYER) else layer_devices[-1]


def _has_copy(header: GgufHeader, head: str) -> bool:
    return head != CPU and header.has_tied_embeddings and header.architecture not in ENCODERS


def _excepted(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    """Find the first rule that a name matches, as --override-tensor does."""
    return next((device for pattern, device in rules if pattern.search(name)), None)
