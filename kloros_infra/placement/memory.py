"""Predict the bytes that llama-server takes on each device.

Weights are exact. Keys and values follow llama.cpp's src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp. Compute
buffers are an estimate fitted to what llama.cpp reports (within 5 % of a card's total for cards of 8 GB and more).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.catalog import Model
from kloros_infra.ir.gguf import GgufHeader, Tensor
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.block_sizes import tensor_bytes

# Encoders read a text in one go and keep no keys and values (llama.cpp, llama_model::create_memory).
ENCODERS = frozenset(
    {"bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe"}
)
DEFAULT_MICRO_BATCH = 512
# llama.cpp rounds a cache up to whole blocks of cells.
_CELLS_IN_A_BLOCK = 256
# The input layer's tensors stay in host memory whatever is offloaded (llama-model.cpp, dev_input).
_INPUT_TENSORS = ("token_embd.", "token_embd_norm.", "token_types.", "position_embd.")
# Copies of the inputs that a pipeline keeps, so that one card can begin while another still works.
_PIPELINE_COPIES = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """What the memory beside the weights depends on; each of `parallel` slots has its own context."""

    context_tokens: int
    parallel: int
    micro_batch: int
    kv_type: str = "f16"


@dataclass(frozen=True, slots=True)
class Role:
    """What a device does in a split model."""

    is_first: bool
    holds_layers: bool
    holds_head: bool
    is_pipelined: bool


def workload(model: Model) -> Workload:
    """Say what a model's server is started with; an encoder takes a whole text as one micro-batch."""
    is_encoder = model.weights.header.architecture in ENCODERS
    micro_batch = max(DEFAULT_MICRO_BATCH, model.context_tokens) if is_encoder else DEFAULT_MICRO_BATCH
    return Workload(model.context_tokens, model.parallel, micro_batch)


def weights_by_device(header: GgufHeader, layer_devices: tuple[str, ...]) -> Mapping[str, int]:
    """Add up the weights on each device; a head that reuses the token embedding has a copy of it."""
    found: Counter[str] = Counter()
    for tensor in header.tensors:
        found[_device(tensor, layer_devices)] += tensor.size_bytes
    head = layer_devices[-1]
    if head != CPU and header.has_tied_embeddings and header.architecture not in ENCODERS:
        found[head] += sum(tensor.size_bytes for tensor in header.tensors if tensor.name == "token_embd.weight")
    return found


def _device(tensor: Tensor, layer_devices: tuple[str, ...]) -> str:
    if tensor.layer is not None:
        return layer_devices[tensor.layer]
    if tensor.name.startswith(_INPUT_TENSORS):
        return CPU
    return layer_devices[-1]


def kv_by_layer(header: GgufHeader, work: Workload) -> tuple[int, ...]:
    """Say what each layer's keys and values take, over all slots."""
    if header.architecture in ENCODERS:
        return (0,) * header.layer_count
    return tuple(
        work.parallel * _cells(header, layer, work) * _cell_bytes(header, heads, work.kv_type)
        for layer, heads in enumerate(header.head_count_kv)
    )


def _cells(header: GgufHeader, layer: int, work: Workload) -> int:
    tokens = work.context_tokens
    if slides(header, layer):
        tokens = min(tokens, header.sliding_window + work.micro_batch)
    return -(-tokens // _CELLS_IN_A_BLOCK) * _CELLS_IN_A_BLOCK


def slides(header: GgufHeader, layer: int) -> bool:
    """Say whether a layer looks at a sliding window only: all but the last of each period (set_swa_pattern)."""
    period = header.sliding_window_pattern
    return header.sliding_window > 0 and period > 0 and layer % period < period - 1


def _cell_bytes(header: GgufHeader, heads: int, kv_type: str) -> int:
    keys, values = header.key_length * heads, header.value_length * heads
    return tensor_bytes(kv_type.upper(), (keys,)) + tensor_bytes(kv_type.upper(), (values,))


def compute_bytes(header: GgufHeader, work: Workload, role: Role) -> int:
    """Estimate a device's compute buffer with flash attention on."""
    copies = _PIPELINE_COPIES if role.is_pipelined else 1
    inputs = (14 if role.is_first else 9) if role.is_pipelined else (2 if role.is_first else 0)
    activations = _activations(header) if role.holds_layers else 0
    values = activations + inputs * header.embedding_length
    mask = copies * 2 * work.micro_batch * work.context_tokens
    of_layers = 4 * work.micro_batch * values + mask
    return max(of_layers, _head_bytes(header, work, role)) if role.holds_head else of_layers


def _head_bytes(header: GgufHeader, work: Workload, role: Role) -> int:
    logits = 4 * work.parallel * header.vocabulary_size
    return logits + 4 * work.micro_batch * header.embedding_length * (9 if role.is_pipelined else 1)


def _activations(header: GgufHeader) -> int:
    """Count the values that one token's widest step keeps."""
    wide, used = header.embedding_length, header.expert_used_count
    if not used:
        return 3 * header.feed_forward_length + 2 * wide
    has_biases = any(tensor.name.endswith("ffn_up_exps.bias") for tensor in header.tensors)
    return 2 * used * wide + used * _expert_width(header) + (2 * wide if has_biases else 0)


def _expert_width(header: GgufHeader) -> int:
    downs = (tensor.shape[0] for tensor in header.tensors if tensor.name.endswith("ffn_down_exps.weight"))
    return next(downs, header.feed_forward_length)
