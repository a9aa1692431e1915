"""When each instance is asked for its health: often while it loads or is in doubt, seldom while it serves."""

from __future__ import annotations

from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Effects, Local
from kloros_infra.router.effects import Poll
from kloros_infra.router.instance import (
    DOUBT_TIMEOUT_S,
    POLL_INTERVALS_S,
    POLL_LOST_S,
    POLL_TIMEOUT_S,
    State,
    load_limit_s,
)

HEALTH_PATH = "/health"
OVERDUE_S = 1.0
"""Whoever looks so late stood still himself: an instance that may long be ready gets the time for one answer."""


class Watch:
    """Notes polls in the agenda, and asks for them one at a time for each instance."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def at_once(self, local: Local, now: float) -> None:
        """Ask as soon as may be, unless an answer is awaited."""
        if local.life.polled_at is None:
            self._agenda.move(now, Due.POLL_INSTANCE, local.name)

    def next(self, local: Local, now: float) -> None:
        """Ask again as its state wants it; what is doubted and fails is asked without a pause."""
        interval_s = POLL_INTERVALS_S.get(local.life.state)
        if interval_s is None:
            return
        at = now if local.is_doubted and local.life.failures else now + interval_s
        self._agenda.move(at, Due.POLL_INSTANCE, local.name)

    def await_load(self, local: Local, now: float) -> None:
        """Ask soon whether it is ready, and give it up when it is not in time."""
        self._agenda.move(now + POLL_INTERVALS_S[State.STARTING], Due.POLL_INSTANCE, local.name)
        self._agenda.move(now + load_limit_s(local.upstream.load_s), Due.LOADED, local.name)

    def is_late(self, local: Local, now: float) -> bool:
        """Say whether it is not ready in time; where it began anew, it is looked at again."""
        if local.life.state not in (State.STARTING, State.LOADING):
            return False
        limit_s = load_limit_s(local.upstream.load_s)
        if now - local.life.since - limit_s > OVERDUE_S:
            local.life = local.life._replace(since=now - limit_s + POLL_LOST_S)
        if now < local.life.since + limit_s:
            self._agenda.note(local.life.since + limit_s, Due.LOADED, local.name)
            return False
        local.life = local.life._replace(reason=f"It was not ready within {limit_s:g} s.", last_lines=())
        return True

    def ask(self, local: Local, now: float, out: Effects) -> None:
        """Ask for its health, and again later if no answer comes."""
        life = local.life
        if life.state not in POLL_INTERVALS_S or (not local.is_active and life.state in (State.STOPPED, State.FAILED)):
            return
        local.life = life._replace(polled_at=now)
        timeout_s = DOUBT_TIMEOUT_S if local.is_doubted else POLL_TIMEOUT_S
        out.append(Poll(local.poll_target(), HEALTH_PATH, timeout_s))
        self._agenda.move(now + POLL_LOST_S, Due.POLL_INSTANCE, local.name)
