"""When an instance has not been used for as long as its model allows."""

from __future__ import annotations

from collections.abc import Callable

from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Local, Waiting
from kloros_infra.router.instance import State

AGAIN_S = 1.0

Protected = Callable[[str, float], bool]
"""Whether allocations from before the router's start keep an instance from being stopped for idleness."""


class Idleness:
    """Keeps a reminder for each instance that may become idle, as long as it runs."""

    def __init__(self, agenda: Agenda, waiting: Waiting, protected: Protected) -> None:
        self._agenda = agenda
        self._waiting = waiting
        self._protected = protected

    def begin(self, local: Local, now: float) -> None:
        """Take in that it is started: what was noted of its former run is over."""
        local.idle_since = now
        self._agenda.forget(Due.IDLE, local.name)

    def freed(self, local: Local, now: float) -> None:
        """Take in that its last request has ended."""
        local.idle_since = now
        if not self._agenda.is_noted(Due.IDLE, local.name):
            self.note(local)

    def note(self, local: Local, *, least_at: float = 0.0) -> None:
        """Remind when it may be idle."""
        timeout_s = local.upstream.idle_timeout_s
        if timeout_s is not None and not local.upstream.is_pinned:
            self._agenda.note(max(local.idle_since + timeout_s, least_at), Due.IDLE, local.name)

    def is_over(self, local: Local, now: float) -> bool:
        """Say whether it is to be stopped now; while it serves, and may be idle later, it is looked at again."""
        timeout_s = local.upstream.idle_timeout_s
        # What becomes ready is noted then.
        if timeout_s is None or local.upstream.is_pinned or local.life.state not in (State.READY, State.SUSPECT):
            return False
        if local.flights or self._waiting(local.model_id):
            self.note(local, least_at=now + max(timeout_s, AGAIN_S))
            return False
        if now < max(local.idle_since + timeout_s, local.stop_at) or self._protected(local.name, now):
            self.note(local, least_at=max(now + AGAIN_S, local.stop_at))
            return False
        return True
