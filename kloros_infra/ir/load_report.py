"""What llama-server says it loaded, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.placement import CPU


class BufferKind(StrEnum):
    """What a buffer is for; `state` is the memory of layers: keys and values, or a recurrent layer's state."""

    WEIGHTS = "weights"
    STATE = "state"
    COMPUTE = "compute"
    OUTPUT = "output"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory that was taken on one device; `is_mapped` says that it is a file's pages, whatever of them is used."""

    device: str
    kind: BufferKind
    size_bytes: int
    is_mapped: bool = False


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model as it was loaded; None where the log does not say.

    `offloaded_layers` of `layer_slots` is what was asked for: llama-server says so even where there is no GPU.
    `graph_splits` counts the pieces between which devices take turns for one token.
    """

    buffers: tuple[Buffer, ...]
    offloaded_layers: int | None = None
    layer_slots: int | None = None
    has_flash_attention: bool | None = None
    slot_context_tokens: int | None = None
    graph_splits: int | None = None

    def bytes_on(self, device: str, kind: BufferKind) -> int:
        return sum(one.size_bytes for one in self.buffers if (one.device, one.kind) == (device, kind))

    @property
    def gpus(self) -> frozenset[str]:
        return frozenset(one.device for one in self.buffers if one.device != CPU)


@dataclass(frozen=True, slots=True)
class SeenDevice:
    """A device by llama.cpp's name, as it describes it: a card's name, or a server's endpoint; None where not said."""

    device: str
    description: str | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Everything that one start of llama-server loaded: the model first, then a draft model.

    `seen` are the GPUs that it saw; `notes` are lines that tell of something it had to do without. It is complete
    when the server has said that its model is loaded.
    """

    seen: tuple[SeenDevice, ...] = ()
    models: tuple[LoadedModel, ...] = ()
    projector: tuple[Buffer, ...] = ()
    notes: tuple[str, ...] = ()
    is_complete: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(one.device for one in self.seen)

    @property
    def main(self) -> LoadedModel | None:
        return self.models[0] if self.models else None

    def total_bytes(self) -> Mapping[str, int]:
        """Add up what each device holds, mapped files left out."""
        found: Counter[str] = Counter()
        for one in (*(buffer for model in self.models for buffer in model.buffers), *self.projector):
            found[one.device] += 0 if one.is_mapped else one.size_bytes
        return found
