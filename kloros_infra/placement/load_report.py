"""llama-server's log → LoadReport.

Buffer sizes are printed with LLAMA_ARG_LOG_VERBOSITY=4 (trace); at the default of newer builds, 3, they are not. What
is asked for and what is there are different lines: "offloaded 31/31 layers to GPU" stands in the log of a server that
found no GPU, so only buffers count. The lines come from llama.cpp's src/llama-model.cpp, llama-context.cpp,
llama-kv-cache.cpp, llama-memory-recurrent.cpp and tools/mtmd/clip.cpp, in the wordings of 2024 to b11434; what a build
does not print stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kloros_infra.ir.load_report import Buffer, BufferKind, LoadedModel, LoadReport, SeenDevice
from kloros_infra.ir.placement import CPU

LOG_VERBOSITY = 4
"""What LLAMA_ARG_LOG_VERBOSITY must be at least for the lines that are read here."""

MIB = 2**20

# common/common.cpp, common_params_print_info; in builds of 2025 "build: 4701 (…) with …".
_START = re.compile(r"^build: \d+ \(|print_info: (?:build \d+ \(|verbosity = )")
# What comes before that line, or between two of that kind: backends register, the reader of arguments warns.
_BEFORE_START = re.compile(
    r"^(?:[\d.]+ \w )?(?:ggml_|load_backend|register_backend|register_device| {2}Device \d+:|warning: )"
    r"|llama_server: initializing|print_info: build"
)
_END = re.compile(r"\bmodel loaded$")

_BUFFER = re.compile(r"(\w+): +([A-Za-z]\S*) +(?:([A-Za-z][\w ]*?) )?buffer size *= *([0-9.]+) MiB")
_MODEL = re.compile(r"llama_model_loader: loaded meta data with")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
# The first thing that a context says of itself.
_CONTEXT = re.compile(r"\bn_seq_max += *\d+")
_SLOT_CONTEXT = re.compile(r"\bn_ctx_(?:per_)?seq += *(\d+)")
_FLASH_ATTENTION = re.compile(r"\bflash_attn += *(\w+)")
_FLASH_RESOLVED = re.compile(r"Flash Attention (?:was auto, set to )?(enabled|disabled|not supported)")
_FLASH_FORCED_OFF = re.compile(r"flash_attn .*forcing off")
# b10068: "graph splits = 123 (with bs=512), 2 (with bs=1)"; b11434: "graph (…): nodes = 936 / 936, splits = 123 / 2,".
_SPLITS = re.compile(r"graph splits = (\d+)(?: \(with bs=\d+\), (\d+) \(with bs=1\))?")
_SPLITS_OF_TWO = re.compile(r"graph[^:]*: nodes = [^,]+, splits = (\d+)(?: / (\d+))?")
_DEVICE = re.compile(
    r"(?:- (?P<listed>\S+) *: (?P<described>.*) \((?P<total>\d+) MiB, \d+ MiB free\)"
    r"|using device (?P<used>\S+) \((?P<is>[^)]*)\))"
)
# A device of another host is described by its server; its memory goes by number within the server.
_REMOTE_NAME = re.compile(r"RPC\d+")
_REMOTE_BUFFER = re.compile(r"RPC(\d+)\[(.+)\]")
_PROJECTOR_DEVICE = re.compile(r"CLIP using (\S+) backend")
_PROJECTOR_SIZE = re.compile(r"load_hparams: model size: +([0-9.]+) MiB")
_PROJECTOR_COMPUTE = "alloc_compute_meta"
_NOTE = re.compile(
    r"no usable GPU|failed to initialize|no CUDA-capable device|failed to load .*backend|falling back"
    r"|not supported, set to disabled|is assigned to device \S+ but|forcing off",
    re.IGNORECASE,
)

_ON = frozenset({"1", "on", "enabled", "true"})
_OFF = frozenset({"0", "off", "disabled", "false"})
# Host memory by another name: pinned for a GPU, or laid out for the processor's matrix units.
_HOST_NAMES = frozenset({"CPU", "BLAS", "AMX", "Host"})


def parse_load_report(lines: Iterable[str]) -> LoadReport:
    """Read what one start of llama-server loaded; of several starts, the last one."""
    reader = _Reader()
    for line in since_last_start(tuple(lines)):
        if _END.search(line):
            reader.is_complete = True
            break
        for pattern, read in _READERS:
            if found := pattern.search(line):
                read(reader, found)
        if _NOTE.search(line):
            reader.notes.append(line.strip())
    return reader.report()


def since_last_start(lines: Sequence[str]) -> Sequence[str]:
    """Leave out what earlier processes wrote to the same log."""
    start = max((at for at, line in enumerate(lines) if _START.search(line)), default=0)
    while start > 0 and _BEFORE_START.search(lines[start - 1]):
        start -= 1
    return lines[start:]


def device_of(buffer: str) -> str:
    """Say on which device a buffer is, by llama.cpp's name for the buffer: `CUDA0`, `CUDA_Host`, `RPC0[host:port]`."""
    base, _, suffix = buffer.partition("[")[0].partition("_")
    return CPU if base in _HOST_NAMES or suffix == "Host" else base


@dataclass(slots=True)
class _Model:
    """One model while it is read; compute buffers go by context, as a context may take them anew."""

    buffers: list[Buffer] = field(default_factory=list)
    computing: dict[tuple[int, str], Buffer] = field(default_factory=dict)
    contexts: int = 0
    offloaded: tuple[int, int] | None = None
    has_flash_attention: bool | None = None
    slot_context_tokens: int | None = None
    graph_splits: int | None = None

    def finished(self) -> LoadedModel:
        offloaded, slots = self.offloaded or (None, None)
        return LoadedModel(
            buffers=(*self.buffers, *self.computing.values()),
            offloaded_layers=offloaded,
            layer_slots=slots,
            has_flash_attention=self.has_flash_attention,
            slot_context_tokens=self.slot_context_tokens,
            graph_splits=self.graph_splits,
        )


@dataclass(slots=True)
class _Reader:
    """What was read so far."""

    devices: dict[str, SeenDevice] = field(default_factory=dict)
    servers: dict[str, dict[str, None]] = field(default_factory=dict)
    models: list[_Model] = field(default_factory=lambda: [_Model()])
    notes: list[str] = field(default_factory=list)
    projector_device: str = CPU
    projector_bytes: int = 0
    projector_computing: dict[str, Buffer] = field(default_factory=dict)
    is_complete: bool = False

    def device_of(self, buffer: str) -> str:
        """Say on which device a buffer is; those of other hosts are numbered server by server, as they are listed."""
        remote = _REMOTE_BUFFER.fullmatch(buffer)
        listed = tuple(self.servers.get(remote[2], ())) if remote else ()
        if remote is None or int(remote[1]) >= len(listed):
            return device_of(buffer)
        return listed[int(remote[1])]

    @property
    def model(self) -> _Model:
        return self.models[-1]

    def report(self) -> LoadReport:
        """Give what was read; what was opened and not loaded is no model."""
        weights = (Buffer(self.projector_device, BufferKind.WEIGHTS, self.projector_bytes),)
        return LoadReport(
            seen=tuple(self.devices.values()),
            models=tuple(model.finished() for model in self.models if model.buffers or model.computing),
            projector=(*weights, *self.projector_computing.values()) if self.projector_bytes else (),
            notes=tuple(dict.fromkeys(self.notes)),
            is_complete=self.is_complete,
        )


def _read_buffer(reader: _Reader, found: re.Match[str]) -> None:
    function, name, purpose, mib = found.groups()
    kind = _kind(purpose)
    buffer = Buffer(reader.device_of(name), kind, _bytes(mib), is_mapped=name.endswith("_Mapped"))
    if function == _PROJECTOR_COMPUTE:
        reader.projector_computing[name] = buffer
    elif kind is BufferKind.COMPUTE:
        reader.model.computing[reader.model.contexts, name] = buffer
    else:
        reader.model.buffers.append(buffer)


def _kind(purpose: str | None) -> BufferKind:
    """Read what stands before "buffer size"; builds of 2024 say nothing there for weights."""
    match purpose:
        case None | "model":
            return BufferKind.WEIGHTS
        case "KV" | "RS":
            return BufferKind.STATE
        case "compute":
            return BufferKind.COMPUTE
        case "output":
            return BufferKind.OUTPUT
        case other:
            return BufferKind.STATE if other.endswith(" state") else BufferKind.OTHER


def _bytes(mib: str) -> int:
    return round(float(mib) * MIB)


def _read_model(reader: _Reader, _: re.Match[str]) -> None:
    reader.models.append(_Model())


def _read_offloaded(reader: _Reader, found: re.Match[str]) -> None:
    reader.model.offloaded = int(found[1]), int(found[2])


def _read_context(reader: _Reader, _: re.Match[str]) -> None:
    reader.model.contexts += 1


def _read_slot_context(reader: _Reader, found: re.Match[str]) -> None:
    reader.model.slot_context_tokens = int(found[1])


def _read_flash_attention(reader: _Reader, found: re.Match[str]) -> None:
    """Read on or off; of `auto` the answer comes later."""
    word = found[1].lower()
    reader.model.has_flash_attention = True if word in _ON else False if word in _OFF else None


def _read_flash_resolved(reader: _Reader, found: re.Match[str]) -> None:
    reader.model.has_flash_attention = found[1] == "enabled"


def _read_flash_forced_off(reader: _Reader, _: re.Match[str]) -> None:
    reader.model.has_flash_attention = False


def _read_splits(reader: _Reader, found: re.Match[str]) -> None:
    """Read the second figure where there are two: it is the one for a single token."""
    reader.model.graph_splits = int(found[2] or found[1])


def _read_device(reader: _Reader, found: re.Match[str]) -> None:
    name = found["listed"] or found["used"]
    description = found["described"] or found["is"]
    if found["listed"] and name != CPU:
        reader.devices[name] = SeenDevice(name, description, int(found["total"]) * MIB)
    elif name != CPU:
        # Of one that is used the line does not say how much it has, and of one that was listed it is known.
        reader.devices.setdefault(name, SeenDevice(name, description))
    if _REMOTE_NAME.fullmatch(name):
        reader.servers.setdefault(description, {})[name] = None


def _read_projector_device(reader: _Reader, found: re.Match[str]) -> None:
    reader.projector_device = device_of(found[1])


def _read_projector_size(reader: _Reader, found: re.Match[str]) -> None:
    reader.projector_bytes = _bytes(found[1])


_READERS: tuple[tuple[re.Pattern[str], Callable[[_Reader, re.Match[str]], None]], ...] = (
    (_BUFFER, _read_buffer),
    (_MODEL, _read_model),
    (_OFFLOADED, _read_offloaded),
    (_CONTEXT, _read_context),
    (_SLOT_CONTEXT, _read_slot_context),
    (_FLASH_ATTENTION, _read_flash_attention),
    (_FLASH_RESOLVED, _read_flash_resolved),
    (_FLASH_FORCED_OFF, _read_flash_forced_off),
    (_SPLITS, _read_splits),
    (_SPLITS_OF_TWO, _read_splits),
    (_DEVICE, _read_device),
    (_PROJECTOR_DEVICE, _read_projector_device),
    (_PROJECTOR_SIZE, _read_projector_size),
)
