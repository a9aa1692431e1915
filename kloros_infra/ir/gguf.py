"""What a GGUF header says, as far as placement and routing need it."""

from __future__ import annotations

from dataclasses import dataclass

PROJECTOR_ARCHITECTURE = "clip"
"""What the file beside a vision model calls itself (llama.cpp, tools/mtmd/clip.cpp)."""

POOLING_TYPES = ("none", "mean", "cls", "last", "rank")
"""llama-server's words for `pooling_type`, by its number in a GGUF (llama.cpp, include/llama.h)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of a GGUF tensor table; `shape` is in ggml order (fastest axis first)."""

    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def layer(self) -> int | None:
        """Say which layer it belongs to, or None for embeddings and the output head."""
        if not self.name.startswith("blk."):
            return None
        return int(self.name.split(".", 2)[1])


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Hyper-parameters and the tensor table; `head_count_kv` has one entry per layer.

    A projector has a tensor table and zeros. `chat_template_name` is llama.cpp's name of the family that the file's
    chat template is of, None where there is no template or it is of no known family.
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
    tensors: tuple[Tensor, ...]
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

    @property
    def is_projector(self) -> bool:
        """Say whether it turns pictures or sound into embeddings for a model, instead of being one."""
        return self.architecture == PROJECTOR_ARCHITECTURE

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def has_tied_embeddings(self) -> bool:
        """Say whether the output head reuses the token embedding (no tensor `output.weight`)."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)
