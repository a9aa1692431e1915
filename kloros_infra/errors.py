"""Errors a user can meet, and the exit code of each.

    KlorosError                1
    ├── ProblemsError          1   models.yaml or the lock is wrong: carries every diagnostic
    │   ├── NothingInstalledError  1   there is no routing table below the root
    │   └── UnknownNameError   2   a command names a card or profile that is not there
    ├── ObstacleError          1   the machine is in the way: foreign file, busy port, missing weights
    │   └── NotTakenUpError    1   what is wanted of a card is written down, and nobody has acted on it
    ├── StepFailedError        1   a step of apply failed before anything that runs was touched
    │   ├── RolledBackError    3   a step of apply failed, and everything was undone: the old generation runs again
    │   └── LeftBehindError    4   a step failed, and something is not as it should be: each thing is named
    ├── LockHeldError          5   another apply, or another reconcile, holds the lock
    ├── StalePlanError         6   a saved plan is of another models.yaml, generation or machine than this
    ├── UnitError              1   a unit could not be started, stopped or restarted: carries its log's last lines
    └── UnreachableError       1   something outside did not answer: bus, service manager, hub
        └── NoRouterError      1   nobody listens on the router's control socket

plan itself exits with 0 when there is nothing to do, 2 when there are changes, and 1 after an error.
`gpu release` exits with 3 where others use the card.
Each carries diagnostics, so that every message a user sees has a code, a reason and a remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from kloros_infra.diagnostics import Diagnostic


class KlorosError(Exception):
    """Anything that ends a command with a message for the user."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problems: Iterable[Diagnostic]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.code} {p.summary}: {p.detail}" for p in self.problems))


class ProblemsError(KlorosError):
    """What the operator wrote cannot be compiled."""


class ObstacleError(KlorosError):
    """The machine is not in a state in which the plan can be carried out; nothing was changed."""


class StepFailedError(KlorosError):
    """A step of apply failed, before anything that runs was touched; the steps before it were undone.

    `is_of_units` says that units did not start, were not let through or did not stay up: the generation is at fault.
    """

    is_of_units: bool = False


class RolledBackError(StepFailedError):
    """A step of apply failed; what was written, started and stopped is as before again."""

    exit_code: ClassVar[int] = 3


class LeftBehindError(StepFailedError):
    """A step of apply failed, and something could not be undone, or does not answer although it was."""

    exit_code: ClassVar[int] = 4


class LockHeldError(KlorosError):
    """Another apply, or another reconcile, is running on this root."""

    exit_code: ClassVar[int] = 5


class StalePlanError(KlorosError):
    """What a saved plan was made of has changed since."""

    exit_code: ClassVar[int] = 6


class UnreachableError(KlorosError):
    """A service outside this process did not answer."""


class UnitError(KlorosError):
    """A unit could not be started, stopped or restarted; `last_lines` are of its log."""

    def __init__(self, problem: Diagnostic, *, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__((problem,))
        self.problem = problem
        self.last_lines = last_lines
