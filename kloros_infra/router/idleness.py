"""When an instance has not been used for as long as its model allows, or was left by its profile for long enough."""

from __future__ import annotations

from collections.abc import Callable

from kloros_infra.router.agenda import NEVER, Agenda, Due
from kloros_infra.router.board import Local, Waiting
from kloros_infra.router.instance import State

AGAIN_S = 1.0
STAYS_S = 300.0
"""What its profile has left stays for so long at most (design document, section 8): it may come back."""

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
        """Remind when it may be idle, or has stayed for long enough where it does not serve."""
        if (at := stops_at(local)) is not None:
            self._agenda.note(max(at, least_at), Due.IDLE, local.name)

    def is_over(self, local: Local, now: float) -> bool:
        """Say whether it is to be stopped now; while it serves, and may be idle later, it is looked at again."""
        at = stops_at(local)
        # What becomes ready is noted then.
        if at is None or local.life.state not in (State.READY, State.SUSPECT):
            return False
        left_at = NEVER if local.is_active else local.left_at + STAYS_S
        if now >= left_at:
            return True
        if local.flights or (local.is_active and self._waiting(local.model_id)):
            again_at = now + max(local.upstream.idle_timeout_s or 0.0, AGAIN_S)
            self._agenda.note(min(again_at, left_at), Due.IDLE, local.name)
            return False
        if now < max(at, local.stop_at) or self._protected(local.name, now):
            self.note(local, least_at=max(now + AGAIN_S, local.stop_at))
            return False
        return True


def stops_at(local: Local) -> float | None:
    """Say when it is stopped if nobody uses it, None where it is not for that."""
    timeout_s = local.upstream.idle_timeout_s
    idle_at = None if timeout_s is None or local.upstream.is_pinned else local.idle_since + timeout_s
    if local.is_active:
        return idle_at
    left_at = local.left_at + STAYS_S
    return left_at if idle_at is None else min(idle_at, left_at)
