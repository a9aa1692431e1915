"""See to it that what people want of the cards is acted on: raise the flag, and wait until the report shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from kloros_infra.cli.gpu_site import is_followed, read_report
from kloros_infra.cli.gpu_wiring import GpuPlaces, raise_flag, reconcile_here
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError
from kloros_infra.ir.cards_report import CardsReport

TAKE_UP_S = 8.0
"""How long others may take: a driver that hangs is waited for, and hosts that lend cards are asked."""
POLL_S = 0.02
MAY_NOT = "this user may not do it"

IsShown = Callable[[CardsReport], bool]


class NotTakenUpError(ObstacleError):
    """What is wanted is written down, and nobody has acted on it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How the cards stand after a wish; `obstacle` says why nobody has looked at them since, "" where somebody has."""

    report: CardsReport | None
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class TakingUp:
    """How a wish reaches whoever acts on it, on one installation."""

    places: GpuPlaces
    wait_s: float = TAKE_UP_S

    def told(self) -> bool:
        """Raise the flag, and wait for nobody; say whether it was, for who may lock cards out may not raise it.

        What he writes is noticed all the same. Raises NotTakenUpError (KI918) where nobody could raise it.
        """
        try:
            raise_flag(self.places.where)
        except PermissionError:
            return False
        except OSError as error:
            raise NotTakenUpError([not_taken_up(_words("the flag for it cannot be raised", error))]) from error
        return True

    def shown(self, is_shown: IsShown) -> CardsReport:
        """Give the report once it shows what is wanted; raise NotTakenUpError (KI918) where it does not."""
        taken = self.latest(is_shown)
        if taken.report is None or not is_shown(taken.report):
            raise NotTakenUpError([not_taken_up(taken.obstacle)])
        return taken.report

    def latest(self, is_shown: IsShown) -> Taken:
        """Give the report once it shows what is wanted, or as it is after a while.

        Where nobody follows the cards, or nobody has acted for that long, that is done here.
        """
        is_told, follows = self.told(), is_followed(self.places.where)
        obstacle = (
            "nobody follows the GPUs" if follows is False else f"nobody has looked at the GPUs in {self.wait_s:g} s"
        )
        if not follows and not (why := self._reconcile()):
            return Taken(read_report(self.places.where))
        if follows is not False and self._await(is_shown):
            return Taken(read_report(self.places.where))
        if follows and not (why := self._reconcile()):
            return Taken(read_report(self.places.where))
        # Whoever has the lock may have taken the flag away and hang since.
        has_looked = why == MAY_NOT and is_told and not self._is_pending()
        return Taken(read_report(self.places.where), "" if has_looked else f"{obstacle}, and {why}")

    def _await(self, is_shown: IsShown) -> bool:
        """Wait until the report shows it; say whether it does."""
        deadline = time.monotonic() + self.wait_s
        while (report := read_report(self.places.where)) is None or not is_shown(report):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)  # the pause between two polls of a condition with a deadline
        return True

    def _is_pending(self) -> bool:
        return (self.places.where.root / self.places.where.layout.dirty_file).exists()

    def _reconcile(self) -> str:
        """Look at the cards in this process; say why not, where this user may not or something is in the way."""
        try:
            reconcile_here(self.places)
        except LockHeldError as error:
            return "; ".join(_clause(problem.detail) for problem in error.problems)
        except PermissionError:
            return MAY_NOT
        except OSError as error:
            return _words("the state of the GPUs cannot be written", error)
        return ""


@contextmanager
def unless_interrupted(said: str) -> Iterator[None]:
    """Say what is written down already, and stays so, to whoever does not wait for the rest."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.ClickException(f"{said} That is written down; it was not waited for what follows.") from None


def _clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _words(what: str, error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{what} ({place}{error.strerror or error})"


def not_taken_up(obstacle: str) -> Diagnostic:
    """Say that a wish has not come to pass: nobody has looked, or whoever did does not see it."""
    detail, hint = (
        (
            f"It is written down, but {obstacle}.",
            "Run `kloros-infra gpu reconcile` as root, and see whether kloros-gpu.service runs.",
        )
        if obstacle
        else (
            "It is written down, and the GPUs were looked at since, but they stand otherwise.",
            "See with `kloros-infra gpu list` how, and what is wrong with the files that say what is wanted.",
        )
    )
    return Diagnostic(code="KI918", summary="Nobody acts on it", detail=detail, hint=hint)
