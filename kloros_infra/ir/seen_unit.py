"""A unit as whoever starts and stops instances sees it: whether it runs, and as which process."""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.ir.observed import ActiveState

DOWN = frozenset({ActiveState.INACTIVE, ActiveState.FAILED})


class SeenUnit(NamedTuple):
    """What the service manager says of a unit; `pid` is that of its main process, 0 where it has none.

    It is up as long as a process of it may hold memory: also while it stops.
    """

    is_up: bool
    pid: int = 0


def seen_unit(active: ActiveState, main_pid: int) -> SeenUnit:
    """Say whether a unit is up; one that is about to start, or waits to be started again, is not before it runs."""
    has_process = active is not ActiveState.ACTIVATING or main_pid > 0
    return SeenUnit(active not in DOWN and has_process, main_pid)
