"""What a GGUF header says, as far as placement and routing need it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter

PROJECTOR_ARCHITECTURE = "clip"
"""What the file beside a vision model calls itself (llama.cpp, tools/mtmd/clip.cpp)."""

POOLING_TYPES = ("none", "mean", "cls", "last", "rank")
"""llama-server's words for `pooling_type`, by its number in a GGUF (llama.cpp, include/llama.h)."""

_OF_A_LAYER = re.compile(r"blk\.([0-9]{1,4})\.(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of a GGUF's own tensor table; `shape` is in ggml order (fastest axis first)."""

    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Tensors that differ in their layer alone; `name` has `*` in place of its number, `size_bytes` is that of each.

    `layers` ascend; they are None for a tensor outside the layers, such as an embedding or the output head.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    layers: tuple[int, ...] | None = None

    @property
    def total_bytes(self) -> int:
        return self.size_bytes * (1 if self.layers is None else len(self.layers))


def group_tensors(tensors: Iterable[Tensor]) -> tuple[TensorGroup, ...]:
    """Make the table that a header keeps: some twenty groups where a file has a row for each tensor.

    Raises ValueError for a name that begins as those of layers do and has no layer's number.
    """
    return merge_groups(map(_alone, tensors))


def _alone(tensor: Tensor) -> TensorGroup:
    if not tensor.name.startswith("blk."):
        return TensorGroup(tensor.name, tensor.type, tensor.shape, tensor.size_bytes)
    found = _OF_A_LAYER.fullmatch(tensor.name)
    if found is None:
        raise ValueError(f"{tensor.name!r} is not a tensor's name")
    return TensorGroup(f"blk.*.{found[2]}", tensor.type, tensor.shape, tensor.size_bytes, (int(found[1]),))


def merge_groups(groups: Iterable[TensorGroup]) -> tuple[TensorGroup, ...]:
    """Make one group of those that are alike, sorted by name and layers.

    Tensors outside the layers come first, each by itself.
    """
    outside: list[TensorGroup] = []
    alike: dict[tuple[object, ...], list[TensorGroup]] = {}
    for group in groups:
        if group.layers is None:
            outside.append(group)
        else:
            alike.setdefault((group.name, group.type, group.shape, group.size_bytes), []).append(group)
    return (*outside, *sorted(map(_joined, alike.values()), key=attrgetter("name", "layers")))


def _joined(groups: list[TensorGroup]) -> TensorGroup:
    first, *others = groups
    layers = chain.from_iterable(group.layers or () for group in groups)
    return replace(first, layers=tuple(sorted(layers))) if others else first


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Keys and values compressed into one vector per token (MLA); lengths are those of a head before compression."""

    rank: int
    rope_length: int
    key_length: int
    value_length: int


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What layers keep that remember instead of looking back, by the keys of a GGUF; 0 where it has none.

    `ssm.*` of Mamba and gated delta nets, `kda.head_dim` of Kimi, `shortconv.l_cache` of LFM2, `wkv.head_size` and
    `token_shift_count` of RWKV.
    """

    conv_kernel: int = 0
    inner_size: int = 0
    state_size: int = 0
    group_count: int = 0
    time_step_rank: int = 0
    kda_head_length: int = 0
    short_conv_cache: int = 0
    wkv_head_size: int = 0
    token_shift_count: int = 0


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Hyper-parameters and the tensor table, as `group_tensors` makes it; `head_count_kv` has one entry per layer.

    A projector has a tensor table and zeros. `chat_template_name` is llama.cpp's name of the family that the file's
    chat template is of, None where there is no template or it is of no known family.

    Layers that see a window only are told by a period (`sliding_window_pattern`: all but the last of each), or one by
    one (`sliding_layers`); their heads have the length of the others where `sliding_key_length` is 0. The last
    `proposing_layers` foretell tokens (MTP, NextN); the last `borrowing_layers` use the keys of earlier ones.
    """

    architecture: str
    layer_count: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: tuple[int, ...]
    key_length: int
    value_length: int
    context_length: int
    vocabulary_size: int
    tensors: tuple[TensorGroup, ...]
    expert_count: int = 0
    expert_used_count: int = 0
    sliding_window: int = 0
    sliding_window_pattern: int = 0
    chat_template_sha256: str | None = None
    chat_template_name: str | None = None
    tokenizer_model: str | None = None
    tokenizer_pre: str | None = None
    pooling_type: str | None = None
    has_vision: bool = False
    has_audio: bool = False
    sliding_layers: tuple[int, ...] = ()
    sliding_key_length: int = 0
    sliding_value_length: int = 0
    proposing_layers: int = 0
    borrowing_layers: int = 0
    latent: LatentAttention | None = None
    recurrence: Recurrence | None = None

    @property
    def is_projector(self) -> bool:
        """Say whether it turns pictures or sound into embeddings for a model, instead of being one."""
        return self.architecture == PROJECTOR_ARCHITECTURE

    @property
    def weights_bytes(self) -> int:
        return sum(group.total_bytes for group in self.tensors)

    @property
    def has_tied_embeddings(self) -> bool:
        """Say whether the output head reuses the token embedding (no tensor `output.weight`)."""
        return all(group.name != "output.weight" for group in self.tensors)
