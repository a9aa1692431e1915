"""Where a model's layers live, and what they take there."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.catalog import KvType

CPU = "CPU"


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """Predicted bytes on one device; `device` is llama.cpp's name, `card` the name in models.yaml.

    `extra_bytes` is what a draft model and a projector take there, all in all.
    """

    device: str
    card: str | None
    layers: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    capacity_bytes: int | None
    extra_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.extra_bytes

    @property
    def fits(self) -> bool:
        return self.capacity_bytes is None or self.total_bytes <= self.capacity_bytes


@dataclass(frozen=True, slots=True)
class TensorException:
    """Tensors that leave their layer's device: an anchored pattern without backslash or comma."""

    pattern: str
    device: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """How fast a placement is foreseen to be, with the context full to `depth_tokens`.

    `splits` are the parts of the graph of one token, as llama.cpp counts them. `bottleneck` is the device that most of
    the time goes to, or `links`. A better placement would cost less time by at most the share `gap`.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    depth_tokens: int
    splits: int
    bottleneck: str
    gap: float = 0.0


@dataclass(frozen=True, slots=True)
class RemoteDevice:
    """A device that another host lends: the server that has it, and its number there."""

    device: str
    endpoint: str
    index: int

    @property
    def buffer(self) -> str:
        """Name its memory as llama.cpp does (ggml-rpc.cpp, ggml_backend_rpc_buffer_type)."""
        return f"RPC{self.index}[{self.endpoint}]"


@dataclass(frozen=True, slots=True)
class Placement:
    """The decision for one instance.

    `layer_devices` has one entry per repeating layer and a last one for the output head; KV follows
    its layer. `loads` lists the GPUs in llama.cpp's order and the CPU last. A draft model and a
    projector are wholly on the head's device.
    """

    engine: str
    layer_devices: tuple[str, ...]
    exceptions: tuple[TensorException, ...]
    loads: tuple[DeviceLoad, ...]
    context_tokens: int
    parallel: int
    micro_batch: int
    cache_type_k: KvType = KvType.F16
    cache_type_v: KvType = KvType.F16
    predicted: Prediction | None = None
    remotes: tuple[RemoteDevice, ...] = ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """List the RPC servers that it needs, in the order that gives their devices these names."""
        return tuple(dict.fromkeys(remote.endpoint for remote in self.remotes))

    @property
    def head_device(self) -> str:
        return self.layer_devices[-1]

    @property
    def is_cpu_only(self) -> bool:
        return all(load.device == CPU for load in self.loads)

    @property
    def fits(self) -> bool:
        return all(load.fits for load in self.loads)
