"""What the core knows of each instance and of each request that waits, for operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.board import Local
from kloros_infra.router.candidates import RANKS
from kloros_infra.router.idleness import STAYS_S, stops_at
from kloros_infra.router.instance import State
from kloros_infra.router.reports import why_not
from kloros_infra.router.traffic import Traffic

PRIORITIES = {rank: priority for priority, rank in RANKS.items()}
SERVING = (State.READY, State.SUSPECT)


class InstanceView(NamedTuple):
    """An instance of this machine; `stops_in_s` is None where it is not stopped for idleness, or not now."""

    name: str
    profile: str
    model_id: str
    unit: str
    port: int
    state: State
    is_active: bool
    pid: int
    up_s: float
    """How long its process has been up."""
    used_s_ago: float | None
    """How long ago its last request ended, 0 while it has some; None where it has had none since it came up."""
    stops_in_s: float | None
    in_flight: int
    queued: int
    restarts: int
    reason: str
    """Why it failed, or cannot be started."""
    last_lines: tuple[str, ...]
    stopped_for: StopCause | None
    """Why it does not run, as far as it is this router's doing."""
    is_barred: bool = False
    """A card of its is not to be used; `reason` says why."""


class WaitingView(NamedTuple):
    """A request that waits for a model; the first of its line has position 1."""

    request_id: str
    model_id: str
    client: str
    priority: Priority
    position: int
    waited_s: float
    left_s: float
    attempt: int


class Overview(NamedTuple):
    """All of it at one moment."""

    instances: tuple[InstanceView, ...]
    waiting: tuple[WaitingView, ...]


def overview(locals_: Iterable[Local], traffic: Traffic, now: float) -> Overview:
    """Look at every instance, by name, and at every line."""
    by_name = sorted(locals_, key=lambda local: local.name)
    return Overview(tuple(_instance(local, traffic, now) for local in by_name), tuple(_waiting(traffic, now)))


def _instance(local: Local, traffic: Traffic, now: float) -> InstanceView:
    life, upstream = local.life, local.upstream
    queued = traffic.waiting(local.model_id) if local.is_active else 0
    return InstanceView(
        name=local.name,
        profile=upstream.profile,
        model_id=local.model_id,
        unit=upstream.unit,
        port=upstream.port,
        state=life.state,
        is_active=local.is_active,
        pid=life.pid,
        up_s=life.up_s(now),
        used_s_ago=_used_s_ago(local, now),
        stops_in_s=_stops_in_s(local, queued, now),
        in_flight=len(local.flights),
        queued=queued,
        restarts=life.restarts,
        reason=why_not(local),
        last_lines=life.last_lines,
        stopped_for=_stopped_for(local),
        is_barred=local.bar is not None,
    )


def _stopped_for(local: Local) -> StopCause | None:
    if local.life.state is State.FAILED:
        return StopCause.FAILED
    if local.life.state is State.STOPPED and local.is_active and local.bar is not None:
        return StopCause.CARD
    return local.stopped_for if local.life.state is State.STOPPED else None


def _used_s_ago(local: Local, now: float) -> float | None:
    if local.flights:
        return 0.0
    has_served = local.life.state in SERVING and local.idle_since != local.life.since
    return now - local.idle_since if has_served else None


def _stops_in_s(local: Local, queued: int, now: float) -> float | None:
    at = stops_at(local)
    if at is None or local.life.state not in SERVING:
        return None
    if local.flights or queued:
        at = now + (local.upstream.idle_timeout_s or 0.0) if local.is_active else local.left_at + STAYS_S
    return max(0.0, at - now)


def _waiting(traffic: Traffic, now: float) -> Iterator[WaitingView]:
    for model_id, line in sorted(traffic.lines.items()):
        for position, id in enumerate(line, 1):
            request = traffic.requests[id]
            asked = request.asked
            yield WaitingView(
                id,
                model_id,
                asked.client,
                PRIORITIES[request.rank],
                position,
                now - request.asked_at,
                max(0.0, asked.deadline_at - now),
                request.attempt,
            )
