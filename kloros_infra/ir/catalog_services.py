"""The resolved addresses of the services beside the models: ChemBus and the HTTP bridge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BusAddresses:
    """The two sides of the ChemBus proxy; `is_managed` says whether we run the proxy.

    At `direct` the router itself is asked, past the proxy; None where it is not. `has_voice` says whether KLoROS's own
    requests for words are answered.
    """

    xsub: str
    xpub: str
    is_managed: bool
    direct: str | None = None
    has_voice: bool = True


@dataclass(frozen=True, slots=True)
class BridgeAddresses:
    """Where the HTTP bridge listens, whose keys it asks for, and how long it waits."""

    host: str
    ports: tuple[int, ...]
    credential: str | None = None
    max_queued: int = 256
    first_byte_timeout_s: float = 300.0
    stall_timeout_s: float = 30.0
