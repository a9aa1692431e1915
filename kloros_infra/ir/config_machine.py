"""Sections of models.yaml about machines: hosts, GPUs and profiles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from kloros_infra.ir.catalog import GIGABIT_BYTES_PER_S, OLDEST_SYSTEMD, HostMemory
from kloros_infra.ir.conditions import STANDARD_CONDITIONS
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import (
    COMPUTE_CAPABILITY_PATTERN,
    LINE_PATTERN,
    PCI_PATTERN,
    UUID_PATTERN,
    Alias,
    Bandwidth,
    Bytes,
    CardMemory,
    Count,
    Duration,
    HostAddress,
    Interface,
    Line,
    Name,
    Port,
    PositiveCount,
    PositiveDuration,
    Program,
    Url,
    UrlPath,
    one_or_several,
)

DEFAULT_LLAMA_SERVER = "/opt/llama.cpp/llama-server"
_WORD_FORM: Any = {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": LINE_PATTERN}
_Word = Annotated[str, Field(min_length=1, max_length=4096, pattern=LINE_PATTERN)]
_KNOWN = "that of the card called `name`, or like this entry, where it is well known"


class HealthSpec(Spec):
    """How a remote host is asked whether it can serve."""

    path: Annotated[
        UrlPath | None,
        about(
            "Path that answers 200 when the host can serve.",
            "/health",
            standard="/health of llama.cpp, /api/version of Ollama, and the list of models of others",
        ),
    ] = None
    interval: Annotated[PositiveDuration, about("Time between two questions.", "10s", standard="10s")] = 10.0
    timeout: Annotated[PositiveDuration, about("How long an answer may take.", "2s", standard="2s")] = 2.0
    failures: Annotated[PositiveCount, about("Failures in a row that take the host out.", 3)] = 3


class UpstreamSpec(Spec):
    """A server on a remote host that answers requests."""

    kind: Annotated[UpstreamKind, about("What it speaks.", "ollama")]
    port: Annotated[Port, about("Its TCP port.", 11434)]
    path: Annotated[UrlPath, about("What its URL paths begin with.", "/v1")] = ""
    tls: Annotated[bool, about("Whether it is asked over https.", False)] = False
    priority: Annotated[
        Count, about("Order among hosts that serve a model: lower first; this machine's instances are 50.", 10)
    ] = 100
    toggle: Annotated[
        Url | None,
        about(
            "URL whose JSON answer says `enabled: true` while the host may be used.", "http://100.64.0.7:8888/status"
        ),
    ] = None
    health: Annotated[HealthSpec, about("How it is asked whether it can serve.", {"interval": "10s"})] = HealthSpec()
    credential: Annotated[
        Name | None, about("Name of the credential that is sent as bearer token; never the secret itself.", "altimitos")
    ] = None
    models: Annotated[
        dict[Name, Alias], about("Models it serves: the id here and its name there.", {"code": "qwen2.5-coder:7b"})
    ] = {}


class RpcSpec(Spec):
    """How the cards of another host are lent to this one: by ggml's RPC servers, which ask nobody who he is."""

    interface: Annotated[Interface, about("The private network interface that has the host's `address`.", "tailscale0")]
    port_offset: Annotated[
        Count,
        about("What is added to a model's port here for the port of its RPC server there.", 1000),
    ] = 0
    bandwidth: Annotated[
        Bandwidth, about("Bandwidth of the network between the two hosts.", "1.17GB/s", standard="117MB/s")
    ] = GIGABIT_BYTES_PER_S
    program: Annotated[
        Program | None,
        about(
            "The RPC server: an absolute path, or one inside an installed Python package.",
            "/opt/llama.cpp/ggml-rpc-server",
            standard="ggml-rpc-server beside the host's llama_server",
        ),
    ] = None


_Factor = Annotated[float, Field(ge=0.01, le=100)]


class MeasuredSpec(Spec):
    """What `modelctl bench` found, as multiples of what is foreseen of such a card or processor."""

    decode: Annotated[_Factor, about("How fast tokens are generated, against what is foreseen.", 0.93)] = 1.0
    prefill: Annotated[_Factor, about("How fast prompts are read, against what is foreseen.", 1.1)] = 1.0


class HostSpec(Spec):
    """A machine: the one this file is applied on, or a remote one that may serve requests."""

    role: Annotated[
        Literal["local", "remote"], about("`local` is the machine that the file is applied on.", "remote")
    ] = "local"
    llama_server: Annotated[
        Program,
        about(
            "The llama-server program: an absolute path, or one inside an installed Python package.",
            "/usr/bin/llama-server",
        ),
    ] = DEFAULT_LLAMA_SERVER
    tensor_overrider: Annotated[
        tuple[_Word, ...],
        BeforeValidator(one_or_several),
        WithJsonSchema({"anyOf": [_WORD_FORM, {"type": "array", "items": _WORD_FORM}]}),
        about(
            "How to run the external gguf-tensor-overrider, word by word: `kloros-infra lock` asks it for models with"
            " `placement: overrider`.",
            ["node", "--experimental-strip-types", "/opt/gguf-tensor-overrider/src/index.ts"],
        ),
    ] = ()
    memory: Annotated[
        Bytes | None, about("Its memory that models may use beside cards; without it, all layers go on cards.", "48GiB")
    ] = None
    memory_bandwidth: Annotated[
        Bandwidth,
        about("Bandwidth of its memory, for layers that stay with the CPU.", "89.6GB/s", standard="51.2GB/s"),
    ] = HostMemory().bandwidth_bytes_per_s
    measured: Annotated[
        MeasuredSpec, about("How fast its processor was measured to be; `modelctl bench` writes it.", {"decode": 0.9})
    ] = MeasuredSpec()
    address: Annotated[
        HostAddress | None,
        about("Where other hosts reach it; for `rpc` an IPv4 address of a private network.", "100.64.0.7"),
    ] = None
    rpc: Annotated[
        RpcSpec | None,
        about("Lets profiles use a remote host's cards.", {"interface": "tailscale0"}),
    ] = None
    systemd: Annotated[
        Annotated[int, Field(ge=OLDEST_SYSTEMD, le=999)],
        about(
            "The version of systemd that runs the units there, as `systemctl --version` prints it: what only newer"
            " ones know is left out.",
            257,
        ),
    ] = OLDEST_SYSTEMD
    upstream: Annotated[
        UpstreamSpec | None,
        about("What serves requests on a remote host.", {"kind": "ollama", "port": 11434}),
    ] = None


class GpuSpec(Spec):
    """A card; identity is a UUID or a PCI address, never an index."""

    host: Annotated[Name, about("The host that it is in.", "astraea")]
    uuid: Annotated[
        Annotated[str, Field(pattern=UUID_PATTERN)] | None,
        about("Its UUID, as `nvidia-smi -L` prints it.", "GPU-5a2b3c4d-0000-1111-2222-333344445555"),
    ] = None
    pci: Annotated[
        Annotated[str, Field(pattern=PCI_PATTERN)] | None,
        about("Its PCI address, as `lspci -D` prints it.", "0000:04:00.0"),
    ] = None
    name: Annotated[
        Line | None,
        about("What NVML calls it: figures that are not given here are those of this card.", "NVIDIA GeForce RTX 3060"),
    ] = None
    vram: Annotated[
        CardMemory | None, about("Its memory, as it is sold or as CUDA sees it.", "12GiB", standard=_KNOWN)
    ] = None
    bandwidth: Annotated[Bandwidth | None, about("Its memory bandwidth.", "360GB/s", standard=_KNOWN)] = None
    compute_capability: Annotated[
        Annotated[str, Field(pattern=COMPUTE_CAPABILITY_PATTERN)] | None,
        about("Its CUDA compute capability, in quotes.", "8.6", standard=_KNOWN),
    ] = None
    tflops: Annotated[
        Annotated[float, Field(ge=0.1, le=100_000)] | None,
        about(
            "Its FP16 matrix throughput in TFLOP/s without sparsity (FP32 before Volta), by its data sheet.",
            51.2,
            standard=_KNOWN,
        ),
    ] = None
    link: Annotated[
        Bandwidth | None,
        about(
            "Bandwidth of its slot in one direction; PCI Express 4.0 has 2GB/s for each lane.",
            "8GB/s",
            standard="the card's own, up to PCI Express 4.0 x16",
        ),
    ] = None
    layer_overhead: Annotated[
        Duration | None,
        about("What each layer of a token takes beside reading its weights.", "0.02ms", standard="by its generation"),
    ] = None
    measured: Annotated[
        MeasuredSpec, about("How fast it was measured to be; `modelctl bench` writes it.", {"decode": 0.93})
    ] = MeasuredSpec()
    reserve: Annotated[
        Bytes | None, about("Memory left to the desktop and the CUDA context.", "1GiB", standard="defaults.reserve")
    ] = None
    lockout: Annotated[bool, about("Whether it is locked out: profiles that need it are not used.", False)] = False
    shared_with: Annotated[Line | None, about("Who else uses it; shown where it is unavailable.", "games")] = None


class ConditionsSpec(Spec):
    """What must hold on each of a profile's cards beside being present."""

    leave_above: Annotated[
        Bytes, about("Memory used by others above which the profile is left.", "2GiB", standard="2GiB")
    ] = STANDARD_CONDITIONS.leave_above_bytes
    take_below: Annotated[
        Bytes, about("Memory used by others below which the profile can be taken again.", "1GiB", standard="1GiB")
    ] = STANDARD_CONDITIONS.take_below_bytes


class ProfileSpec(Spec):
    """A set of cards, best card first; the first profile whose cards are all there is active."""

    gpus: Annotated[tuple[Name, ...], about("Its cards, in the order in which llama.cpp sees them.", ["rtx3060"])]
    conditions: Annotated[ConditionsSpec, about("What must hold on each card.", {"leave_above": "2GiB"})] = (
        ConditionsSpec()
    )
    regain_after: Annotated[
        Duration, about("How long its cards must be free before it is taken again.", "30s", standard="30s")
    ] = STANDARD_CONDITIONS.regain_after_s
    release_after: Annotated[
        Duration,
        about("How long others must use its cards before it is left; never less than 2s.", "10s", standard="0s"),
    ] = STANDARD_CONDITIONS.release_after_s
