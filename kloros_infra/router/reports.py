"""What the core says of its targets to those who ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.board import Local, Station, Waiting
from kloros_infra.router.effects import Target
from kloros_infra.router.instance import State
from kloros_infra.router.select import Standing
from kloros_infra.router.traffic import Traffic

STATUS_WORDS = {
    State.UNKNOWN: "unknown",
    State.STOPPED: "stopped",
    State.STARTING: "starting",
    State.LOADING: "loading",
    State.READY: "healthy",
    State.SUSPECT: "unhealthy",
    State.DRAINING: "draining",
    State.STOPPING: "stopping",
    State.FAILED: "failed",
}

STOP_WORDS: Mapping[StopCause | None, str] = {
    StopCause.IDLE: "its profile is not active any more",
    StopCause.ROOM: "others need its memory",
    StopCause.ASKED: "an operator wanted that",
    StopCause.CARD: "its card is not to be used",
}
"""Why an instance is stopped though it is at work; who is active and idle is not."""


def health(stations: Iterable[Station], waiting: Waiting, *, profile: str, now: float) -> dict[str, Any]:
    """Give the `llm.health` payload of the design document, section 7; its "profile" is our instance."""
    known = tuple(stations)
    locals_ = [station for station in known if isinstance(station, Local) and (station.is_active or _is_seen(station))]
    remotes = [station for station in known if not isinstance(station, Local)]
    return {
        "runtimes": [_runtime(local, waiting(local.model_id), now) for local in locals_],
        "remote": [_remote(station, waiting(station.model_id)) for station in remotes],
        "gpu_profile": profile,
    }


def standings(traffic: Traffic, max_queued: int, now: float) -> Callable[[Target], Standing]:
    """Say how targets stand for a request that comes now."""
    return lambda target: traffic.standing(target, now, max_queued)


def _is_seen(local: Local) -> bool:
    return local.life.is_holding and local.life.state is not State.UNKNOWN


def _runtime(local: Local, queued: int, now: float) -> dict[str, Any]:
    life = local.life
    return {
        "profile": local.name,
        "status": STATUS_WORDS[life.state],
        "model_id": local.model_id,
        "port": local.upstream.port,
        "uptime_seconds": round(life.up_s(now)),
        "active_requests": len(local.flights),
        "queued_requests": queued,
        "breaker": local.breaker.state.value,
        "restarts": life.restarts,
        "reason": why_not(local),
    }


def why_not(local: Local) -> str:
    """Say why an instance does not run, as far as that is known."""
    if local.bar is not None and local.is_active:
        return local.bar.why
    return local.no_room or local.life.reason or ""


def why_stopped(local: Local) -> str | None:
    """Say why an instance was stopped, or is being stopped; None where nobody is known to have done that."""
    if local.bar is not None:
        return local.bar.why
    state = local.life.state
    if state is State.STOPPING and local.stopped_for not in STOP_WORDS:
        return "its unit was stopped" if local.is_listed else "models.yaml has it no more"
    return STOP_WORDS.get(local.stopped_for) if state in (State.STOPPING, State.STOPPED) else None


def _remote(station: Station, queued: int) -> dict[str, Any]:
    return {
        "target": station.name,
        "status": "healthy" if station.is_open else "unhealthy",
        "model_id": station.model_id,
        "active_requests": len(station.flights),
        "queued_requests": queued,
        "breaker": station.breaker.state.value,
    }
