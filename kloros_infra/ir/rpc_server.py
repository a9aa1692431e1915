"""A server on another host that lends its cards to one instance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Card, RpcHost
from kloros_infra.ir.names import InstanceId

AWAITED_KEY = "X-Kloros-Awaits"


class RpcState(StrEnum):
    """Whether a server can be used: it serves one client at a time."""

    FREE = "free"
    TAKEN = "taken"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class RpcServer:
    """One ggml-rpc-server: `cards` in the order in which it names them."""

    instance: InstanceId
    host: RpcHost
    port: int
    cards: tuple[Card, ...]

    @property
    def unit(self) -> str:
        return f"kloros-rpc@{self.instance}.service"

    @property
    def endpoint(self) -> str:
        return f"{self.host.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostPart:
    """What a host that lends cards gets of a project: its own files, and the servers that it runs."""

    host: RpcHost
    servers: tuple[RpcServer, ...]
    tree: ArtifactTree


def awaited_text(endpoints: Iterable[str]) -> str:
    """Write which servers an instance needs, as its unit says it; "" for none."""
    return " ".join(endpoints)


def read_awaited(text: str) -> tuple[str, ...]:
    """Read what `awaited_text` wrote."""
    return tuple(text.split())
