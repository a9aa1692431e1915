"""What a GGUF header says, as far as placement and routing need it."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Hyper-parameters and the tensor table; `head_count_kv` has one entry per layer."""

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

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def has_tied_embeddings(self) -> bool:
        """Say whether the output head reuses the token embedding (no tensor `output.weight`)."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)
