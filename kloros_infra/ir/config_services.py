"""Sections of models.yaml about our own services: bus, bridge, sandbox, observability and storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from kloros_infra.ir.catalog import KEEP_GENERATIONS
from kloros_infra.ir.config_announcements import AnnouncementsSpec
from kloros_infra.ir.config_sandbox import RelaxSpec
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import (
    BusAddress,
    Bytes,
    DirectAddress,
    FolderPath,
    Name,
    Percent,
    Port,
    PositiveCount,
    PositiveDuration,
    ReadablePath,
    Url,
    port_of,
)


class BusSpec(Spec):
    """Where ChemBus is."""

    xsub: Annotated[BusAddress, about("Where publishers connect.", "tcp://127.0.0.1:5556")] = "tcp://127.0.0.1:5556"
    xpub: Annotated[BusAddress, about("Where subscribers connect.", "tcp://127.0.0.1:5557")] = "tcp://127.0.0.1:5557"
    direct: Annotated[
        DirectAddress,
        about(
            "Where services ask the router itself, faster and without loss: a loopback address, a socket in"
            " /run/kloros-router, or `off`.",
            "ipc:///run/kloros-router/direct",
        ),
    ] = "tcp://127.0.0.1:5555"
    managed: Annotated[bool, about("Whether we run the proxy; false where another unit does.", True)] = True
    voice: Annotated[
        bool, about("Whether the router answers KLoROS's voice, in place of KLoROS's own voice service.", False)
    ] = True

    @property
    def listening(self) -> Mapping[str, int]:
        """Give the ports that it has, by the names of their settings; a socket of the file system has none."""
        addresses = {"xsub": self.xsub, "xpub": self.xpub, "direct": self.direct}
        return {name: port_of(one) for name, one in addresses.items() if one.startswith("tcp://")}


class BridgeSpec(Spec):
    """Where the HTTP bridge listens."""

    host: Annotated[Literal["127.0.0.1", "::1"], about("Loopback address.", "127.0.0.1")] = "127.0.0.1"
    ports: Annotated[tuple[Port, ...], Field(min_length=1), about("Ports; Ollama's own is 11434.", [11434, 11435])] = (
        11434,
    )
    credential: Annotated[
        Name | None,
        about("Name of the credential with keys that clients must send, one a line.", "bridge-keys"),
    ] = None
    max_queued: Annotated[PositiveCount, about("Requests that may wait for one model.", 256)] = 256
    first_byte_timeout: Annotated[
        PositiveDuration,
        about(
            "How long an instance may take to the first byte of a streamed answer; one that comes whole takes as long "
            "as its request allows.",
            "5m",
            standard="5m",
        ),
    ] = 300.0
    stall_timeout: Annotated[
        PositiveDuration,
        about("How long an answer may pause between two tokens.", "30s", standard="30s"),
    ] = 30.0


class SandboxSpec(Spec):
    """What the units of llama-server may do beside what they must."""

    security_threshold: Annotated[
        Annotated[float, Field(ge=0, le=10)],
        about("Exposure that `systemd-analyze security` may find at most; 0 is none.", 1.5),
    ] = 1.5
    relax: Annotated[
        tuple[RelaxSpec, ...],
        about(
            "Lines of the sandbox that the units of all models go without, each with its reason.",
            [{"directives": ["MemoryDenyWriteExecute"], "because": "the CUDA driver compiles kernels"}],
        ),
    ] = ()
    read_only_paths: Annotated[
        tuple[ReadablePath, ...],
        about(
            "Folders that units may read although their sandbox hides them; units do not start while one is missing.",
            ["/home/kloros/weights"],
        ),
    ] = ()
    memory_headroom: Annotated[
        Bytes, about("Host memory of each unit on top of what its weights and context need.", "1GiB", standard="1GiB")
    ] = 2**30
    cpu_weight: Annotated[
        Annotated[int, Field(ge=1, le=10_000)] | None, about("CPUWeight= of each unit.", 50, standard="systemd's own")
    ] = None
    io_weight: Annotated[
        Annotated[int, Field(ge=1, le=10_000)] | None, about("IOWeight= of each unit.", 50, standard="systemd's own")
    ] = None


class ObservabilitySpec(Spec):
    """What can be seen from outside."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], about("What the router logs.", "info")] = "info"
    metrics_port: Annotated[
        Port | None, about("Loopback port for Prometheus.", 9464, standard="none", acted_on=False)
    ] = None
    traces: Annotated[
        Url | None, about("OTLP endpoint for traces.", "http://127.0.0.1:4318/v1/traces", acted_on=False)
    ] = None
    announce: Annotated[bool, about("Whether changes of state are spoken over ChemBus.", False)] = False
    announcements: Annotated[
        AnnouncementsSpec, about("What is spoken, how often, and in which words.", {"kinds": ["profile", "card"]})
    ] = AnnouncementsSpec()


class StorageSpec(Spec):
    """Where things are kept, and how many of them."""

    weights: Annotated[FolderPath, about("Folder of the weights.", "/var/lib/llama-models", acted_on=False)] = (
        "/var/lib/llama-models"
    )
    keep_versions: Annotated[PositiveCount, about("Versions of each model that `modelctl gc` keeps.", 2)] = 2
    keep_generations: Annotated[
        PositiveCount,
        about(
            "Generations that an apply and `kloros-infra gc` keep; it is never fewer than what may be gone back to.", 10
        ),
    ] = KEEP_GENERATIONS
    max_used: Annotated[
        Percent, about("Share of the disk that weights may fill it to.", "90%", standard="90%", acted_on=False)
    ] = 0.9
