"""Predict the bytes that llama-server takes on each device.

Weights are exact. Keys and values follow llama.cpp's src/llama-kv-cache.cpp and llama-kv-cache-iswa.cpp. Compute
buffers are an estimate fitted to what llama.cpp reports (within 5 % of a card's total for cards of 8 GB and more).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.catalog import Instance, KvType, Model, ModelKind
from kloros_infra.ir.gguf import GgufHeader
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
    cache_type_k: KvType = KvType.F16
    cache_type_v: KvType = KvType.F16


@dataclass(frozen=True, slots=True)
class Role:
    """What a device does in a split model."""

    is_first: bool
    holds_layers: bool
    holds_head: bool
    is_pipelined: bool


def workload(instance: Instance) -> Workload:
    """Say what an instance's server is started with."""
    serving = instance.serving
    is_whole = _takes_whole_texts(instance.model)
    micro_batch = max(DEFAULT_MICRO_BATCH, serving.context_tokens) if is_whole else DEFAULT_MICRO_BATCH
    return Workload(serving.context_tokens, serving.parallel, micro_batch, serving.cache_type_k, serving.cache_type_v)


def _takes_whole_texts(model: Model) -> bool:
    """Say whether a text must be one micro-batch (tools/server/server-context.cpp, can_split).

    An encoder sees all of a text at once; a model that gives embeddings can take a text in pieces only where the
    last token stands for all of it.
    """
    header = model.weights.header
    pools_all = model.kind in (ModelKind.EMBEDDING, ModelKind.RERANK) and header.pooling_type != "last"
    return header.architecture in ENCODERS or pools_all


def weights_by_device(header: GgufHeader, layer_devices: tuple[str, ...]) -> Mapping[str, int]:
    """Add up the weights on each device; a head that reuses the token embedding has a copy of it."""
    found: Counter[str] = Counter()
    # Most groups have the same layers, and are added up before these are looked at one by one.
    by_layers: Counter[tuple[int, ...]] = Counter()
    head = layer_devices[-1]
    for group in header.tensors:
        if group.layers is None:
            found[CPU if group.name.startswith(_INPUT_TENSORS) else head] += group.size_bytes
        else:
            by_layers[group.layers] += group.size_bytes
    for layers, size_bytes in by_layers.items():
        for layer in layers:
            found[layer_devices[layer]] += size_bytes
    if head != CPU and header.has_tied_embeddings and header.architecture not in ENCODERS:
        found[head] += sum(group.size_bytes for group in header.tensors if group.name == "token_embd.weight")
    return found


def kv_by_layer(header: GgufHeader, work: Workload) -> tuple[int, ...]:
    """Say what each layer's keys and values take, over all slots."""
    if header.architecture in ENCODERS:
        return (0,) * header.layer_count
    kinds = [(heads, slides(header, layer)) for layer, heads in enumerate(header.head_count_kv)]
    sizes = {
        (heads, is_sliding): work.parallel
        * _cells(header, work, is_sliding=is_sliding)
        * _cell_bytes(header, heads, work)
        for heads, is_sliding in set(kinds)
    }
    return tuple(sizes[kind] for kind in kinds)


def _cells(header: GgufHeader, work: Workload, *, is_sliding: bool) -> int:
    tokens = work.context_tokens
    if is_sliding:
        tokens = min(tokens, header.sliding_window + work.micro_batch)
    return -(-tokens // _CELLS_IN_A_BLOCK) * _CELLS_IN_A_BLOCK


def slides(header: GgufHeader, layer: int) -> bool:
    """Say whether a layer looks at a sliding window only: all but the last of each period (set_swa_pattern)."""
    period = header.sliding_window_pattern
    return header.sliding_window > 0 and period > 0 and layer % period < period - 1


def _cell_bytes(header: GgufHeader, heads: int, work: Workload) -> int:
    keys, values = header.key_length * heads, header.value_length * heads
    of_keys = tensor_bytes(work.cache_type_k.name, (keys,))
    return of_keys + tensor_bytes(work.cache_type_v.name, (values,))


def role_of(device: str, layer_devices: tuple[str, ...]) -> Role:
    """Say what a device does where each layer, and last the head, is on one of these.

    Cards work as a pipeline only where all layers are on cards (llama-context.cpp, pipeline_parallel).
    """
    is_split = len(set(layer_devices)) > 1 and CPU not in layer_devices
    cards = (CPU, *(other for other in layer_devices if other != CPU))
    return Role(
        is_first=device in cards[:2],
        holds_layers=device in layer_devices[:-1],
        holds_head=device == layer_devices[-1],
        is_pipelined=is_split and device != CPU,
    )


def lent_weights_bytes(header: GgufHeader, device: str, layer_devices: tuple[str, ...]) -> int:
    """Say what the first card keeps free for weights of the CPU's layers.

    For a long prompt their matrices are copied to it and multiplied there, one at a time (ggml-backend.cpp,
    ggml_backend_sched_split_graph).
    """
    if device == CPU or CPU not in layer_devices or device != next(one for one in layer_devices if one != CPU):
        return 0
    layers = layer_devices.count(CPU)
    return max(group.size_bytes for group in header.tensors if group.layers and group.layers[0] < layers)


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
    has_biases = any(group.name.endswith("ffn_up_exps.bias") for group in header.tensors)
    return 2 * used * wide + used * _expert_width(header) + (2 * wide if has_biases else 0)


def _expert_width(header: GgufHeader) -> int:
    downs = (group.shape[0] for group in header.tensors if group.name.endswith("ffn_down_exps.weight"))
    return next(downs, header.feed_forward_length)
