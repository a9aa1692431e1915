"""Predict the bytes of what a server loads beside its model: a draft model and a projector.

Both go to the device of the output head, as a whole, and are told so (`compiler.emit_env`, `compiler.emit_command`):
by itself llama-server would divide a draft model among all cards and put a projector on the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.memory import Role, Workload, compute_bytes, kv_by_layer, weights_by_device

_ALONE = Role(is_first=True, holds_layers=True, holds_head=True, is_pipelined=False)
_INPUTS_ONLY = Role(
    is_first=True, holds_layers=False, holds_head=False, is_pipelined=False, core_layers=(), is_idle_cpu=True
)
# Positions of a picture where the projector has no table of them; Qwen2-VL's largest picture (tools/mtmd/clip.cpp).
_DEFAULT_POSITIONS = 4096


def draft_by_device(header: GgufHeader, work: Workload, device: str) -> Mapping[str, int]:
    """Add up a draft model: it gets as many slots and as much context as its model, its cache stays in f16.

    llama.cpp, common/speculative.cpp, common_speculative_init_result.
    """
    work = replace(work, cache_type_k=KvType.F16, cache_type_v=KvType.F16)
    found = Counter(weights_by_device(header, (device,) * (header.layer_count + 1)))
    found[device] += sum(kv_by_layer(header, work)) + compute_bytes(header, work, _ALONE)
    if device != CPU:
        found[CPU] += compute_bytes(header, work, _INPUTS_ONLY)
    return found


def projector_bytes(header: GgufHeader) -> int:
    """Add up a projector and an estimate of what encoding one picture takes, with flash attention on."""
    shapes = {group.name: group.shape for group in header.tensors}
    positions = max((shape[-1] for name, shape in shapes.items() if "position_embd" in name), default=0)
    widest = max((max(shape) for name, shape in shapes.items() if ".blk." in name and len(shape) > 1), default=0)
    # As in a model's layer: the widest step keeps about three values of its width for each position.
    return header.weights_bytes + 4 * (positions or _DEFAULT_POSITIONS) * 3 * widest
