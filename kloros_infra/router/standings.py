"""How each target stands, in the words that choosing, explaining and refusing share."""

from __future__ import annotations

from kloros_infra.router import breaker as breakers
from kloros_infra.router.board import CLOSED, Local, Remote, Station
from kloros_infra.router.breaker import Breaker
from kloros_infra.router.instance import COMING, State
from kloros_infra.router.queue import wait_s
from kloros_infra.router.select import Standing

FULL = "its line is full"
CLOSED_S = 60.0
"""When to ask again where nobody says when a card may be used again."""


def standing(station: Station, *, now: float, queued: int, max_queued: int) -> Standing:
    """Say how a target stands for one more request."""
    if station.takes(now):
        is_waiting, why_not, is_final = False, None, False
    else:
        is_waiting, why_not, is_final = _local(station) if isinstance(station, Local) else _remote(station, now)
        if why_not is None and queued >= max_queued:
            why_not = FULL
    return Standing(
        station.name,
        state_words(station),
        is_waiting,
        why_not,
        is_final,
        len(station.flights),
        station.limit,
        queued,
        expected_wait_s(station, queued, now) if why_not is None else 0.0,
        station.prefill_tokens_per_s,
    )


def state_words(station: Station) -> str:
    """Say in one word what a target does."""
    if isinstance(station, Local):
        return station.life.state.value
    if station.is_open:
        return "ready" if station.breaker.state is breakers.State.CLOSED else station.breaker.state.value
    return "away"


def expected_wait_s(station: Station, queued: int, now: float) -> float:
    """Estimate how long a request would wait before it is sent."""
    if station.takes(now):
        return 0.0
    in_line_s = wait_s(queued + 1, at_a_time=station.limit, each_s=station.each_s)
    if not isinstance(station, Local):
        return in_line_s
    if station.bar is not None:
        return CLOSED_S if station.bar.opens_at is None else max(0.0, station.bar.opens_at - now)
    load_s = station.upstream.load_s
    if station.life.state in COMING:
        load_s = max(0.0, load_s - (now - station.life.since))
    elif station.life.state is State.READY:
        return in_line_s
    return load_s + (in_line_s if queued else 0.0)


def come_again_s(station: Station, queued: int, now: float) -> float:
    """Estimate when asking again may be worth while."""
    return max(retry_after_s(station.breaker, now), expected_wait_s(station, queued, now))


def retry_after_s(breaker: Breaker, now: float) -> float:
    """Say when a breaker may let a request through again."""
    at = breakers.passes_at(breaker)
    return 1.0 if at is None else max(1.0, at - now)


def is_no_help(station: Station) -> bool:
    """Say whether those that wait for a target had better look for another."""
    if not isinstance(station, Local):
        return not station.is_open or station.breaker.state is breakers.State.OPEN
    cannot_run = station.no_room is not None or station.bar is not None or not station.is_active
    return cannot_run or station.life.state in (State.FAILED, State.SUSPECT)


def _local(local: Local) -> tuple[bool, str | None, bool]:
    """Say whether a request would wait for an instance that cannot take it at once, or why it cannot wait for it."""
    state = local.life.state
    if state is State.FAILED:
        return False, f"did not load: {local.life.reason}", True
    if local.bar is not None:
        return False, f"cannot run, as {local.bar.why}", False
    if local.no_room is not None:
        return False, f"cannot be started, as {local.no_room}", False
    return True, None, False


def _remote(station: Station, now: float) -> tuple[bool, str | None, bool]:
    if isinstance(station, Remote) and not station.is_open:
        return False, "its host is away or switched off", False
    breaker = station.breaker
    is_open = breaker is not CLOSED and breaker.state is breakers.State.OPEN
    if is_open and not breakers.passes(breaker, now) and now < breaker.opened_at + breaker.open_s:
        return False, f"has failed too often, and is tried again in {retry_after_s(breaker, now):.0f} s", False
    return True, None, False
