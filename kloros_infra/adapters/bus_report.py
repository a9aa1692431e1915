"""What the ChemBus proxy says of itself, as an envelope."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from kloros_infra.adapters.bus_board import Board, Family
from kloros_infra.adapters.bus_connection import BusLimits, Connection
from kloros_infra.adapters.bus_peers import Subscriber
from kloros_infra.ir.bus_status import BUS_STATUS_TOPIC, BusStatus, FamilyStatus, LastValueStatus, PeerStatus
from kloros_infra.router.wire import write_message

BUS_ECOSYSTEM = "infra"


class Reported(Protocol):
    """What a report reads of a proxy."""

    xsub: str
    xpub: str
    limits: BusLimits
    board: Board
    started_s: float
    connections: dict[int, Connection]
    connections_refused: int
    peers_cut: int


def status_of(proxy: Reported, held_bytes: int) -> bytes:
    """Write a proxy's status as the payload of a message."""
    now = time.monotonic()
    board = proxy.board
    status = BusStatus(
        pid=os.getpid(),
        uptime_s=round(now - proxy.started_s, 3),
        xsub=proxy.xsub,
        xpub=proxy.xpub,
        memory_bytes=_resident_bytes(),
        held_bytes=held_bytes,
        subscriptions=board.subscriptions.count,
        subscriptions_limit=proxy.limits.subscriptions,
        connections_refused=proxy.connections_refused,
        peers_cut=proxy.peers_cut,
        peers=tuple(_peer(one, now) for one in proxy.connections.values() if one.is_joined),
        families=tuple(map(_family, sorted(board.families.values(), key=lambda family: family.name))),
        last_values=_last_values(board, now),
    )
    incident_id = f"{BUS_STATUS_TOPIC}-{time.time_ns():x}"
    return write_message(BUS_STATUS_TOPIC, BUS_ECOSYSTEM, status.model_dump(), ts=time.time(), incident_id=incident_id)


def _peer(one: Connection, now: float) -> PeerStatus:
    is_subscriber = isinstance(one, Subscriber)
    return PeerStatus(
        side=one.side,
        kind=one.kind,
        address=one.address,
        connected_s=round(now - one.since_s, 3),
        messages=one.messages,
        bytes=one.byte_count,
        dropped=one.messages_dropped,
        queued_messages=one.queued_messages,
        queued_bytes=one.queued_bytes,
        subscriptions=one.shared.board.subscriptions.count_of(one) if is_subscriber else 0,
        subscriptions_refused=one.refused if isinstance(one, Subscriber) else 0,
    )


def _family(one: Family) -> FamilyStatus:
    return FamilyStatus(
        family=one.name,
        messages_in=one.messages_in,
        bytes_in=one.bytes_in,
        messages_out=one.messages_out,
        bytes_out=one.bytes_out,
        dropped=one.messages_dropped,
    )


def _last_values(board: Board, now: float) -> tuple[LastValueStatus, ...]:
    return tuple(
        LastValueStatus(
            topic=topic.decode(),
            bytes=len(last.message or b""),
            age_s=round(now - last.at_s, 3) if last.message is not None else None,
        )
        for topic, last in sorted(board.last_values.items())
    )


def _resident_bytes() -> int:
    """Say how much memory this process has (proc_pid_statm(5), the second figure, in pages)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
