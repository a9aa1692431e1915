"""What the ChemBus proxy says of itself, on its own topic to whoever subscribes to exactly that."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

BUS_STATUS_TOPIC: Final = "bus.status"
BUS_STATUS_VERSION: Final = 1


class BusPart(BaseModel):
    """A frozen part of the status; a newer proxy may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PeerStatus(BusPart):
    """One connection; `messages` and `bytes` came from a publisher, went to a subscriber."""

    side: str
    kind: str
    address: str
    connected_s: float
    messages: int
    bytes: int
    dropped: int
    queued_messages: int = 0
    queued_bytes: int = 0
    subscriptions: int = 0
    subscriptions_refused: int = 0


class FamilyStatus(BusPart):
    """What passed of the topics that begin alike; bytes as on the wire."""

    family: str
    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    dropped: int


class LastValueStatus(BusPart):
    """The last message of a topic that is kept for late subscribers; no age where there is none."""

    topic: str
    bytes: int
    age_s: float | None


class BusStatus(BusPart):
    """All of it; counters since the proxy started."""

    version: int = BUS_STATUS_VERSION
    pid: int
    uptime_s: float
    xsub: str
    xpub: str
    memory_bytes: int
    held_bytes: int
    subscriptions: int
    subscriptions_limit: int
    connections_refused: int
    peers_cut: int
    peers: tuple[PeerStatus, ...]
    families: tuple[FamilyStatus, ...]
    last_values: tuple[LastValueStatus, ...]
