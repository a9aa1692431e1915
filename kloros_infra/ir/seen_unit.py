"""A unit as whoever starts and stops instances sees it: whether it runs, and as which process."""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.ir.observed import ActiveState

DOWN = frozenset({ActiveState.INACTIVE, ActiveState.FAILED})
AUTO_RESTART = "auto-restart"
"""How the sub-states begin (`auto-restart-queued` since systemd 254) of what failed and waits to be started again."""


class SeenUnit(NamedTuple):
    """What the service manager says of a unit; `pid` is that of its main process, 0 where it has none.

    It is up as long as a process of it may hold memory: also while it stops.
    """

    is_up: bool
    pid: int = 0
    is_stopping: bool = False
    """It is on its way down: somebody stops it, or it has ended and is being cleared away."""
    has_failed: bool = False
    """It is down, and not because somebody stopped it, unless the stop took too long."""
    comes_back: bool = False
    """It has failed, and its manager is going to start it again."""


def seen_unit(active: ActiveState, main_pid: int, sub: str = "") -> SeenUnit:
    """Say whether a unit is up; one that is about to start, or waits to be started again, is not before it runs."""
    has_process = active is not ActiveState.ACTIVATING or main_pid > 0
    comes_back = active is ActiveState.ACTIVATING and sub.startswith(AUTO_RESTART)
    return SeenUnit(
        is_up=active not in DOWN and has_process,
        pid=main_pid,
        is_stopping=active is ActiveState.DEACTIVATING,
        has_failed=active is ActiveState.FAILED or comes_back,
        comes_back=comes_back,
    )
