"""`gpu release`: lock a card out, give it up, and say whether it is free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from kloros_infra.adapters.card_holders import DEV
from kloros_infra.adapters.clock import SystemClock
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.gpu_locking import JSON_VERSION, is_locked, profile_words
from kloros_infra.cli.gpu_real_card import RealCard
from kloros_infra.cli.gpu_release import CardHolder, GivenUp, give_up
from kloros_infra.cli.gpu_site import GpuSite, read_report
from kloros_infra.cli.gpu_taking_up import NotTakenUpError, TakingUp
from kloros_infra.cli.gpu_wishes import Owner, write_lockout
from kloros_infra.cli.wiring import observing_manager
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import StepFailedError, UnreachableError
from kloros_infra.ir.card_facts import DeclaredCard, Lockout
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.names import is_instance
from kloros_infra.planner.figures import size_text

HELD_BY_OTHERS = 3
"""The exit code where all that is ours is off the card, and others have it."""


@dataclass(frozen=True, slots=True)
class Release:
    """What came of it, and how the cards stood before and stand now."""

    card: str
    given_up: GivenUp
    before: CardsReport | None
    report: CardsReport

    @property
    def exit_code(self) -> int:
        return 0 if self.given_up.is_free else HELD_BY_OTHERS


def release(site: GpuSite, card: DeclaredCard, lockout: Lockout, *, wait_s: float, dev: Path = DEV) -> Release:
    """Give a card up, which may be given up already; the lockout stays whatever comes of it.

    Raises StepFailedError (KI922) where something of ours stays on it, NotTakenUpError (KI918) where it may come back,
    UnreachableError (KI923) where nobody can say who has it.
    """
    before = read_report(site.where)
    write_lockout(site, lockout, Owner.RELEASE)
    try:
        return _given_up(site, RealCard(site, card, observing_manager(site.where), dev=dev), before, wait_s)
    except KeyboardInterrupt:
        said = f"{card.name} stays locked out; `kloros-infra gpu return {card.name}` takes it back."
        raise click.ClickException(said) from None


def _given_up(site: GpuSite, real: RealCard, before: CardsReport | None, wait_s: float) -> Release:
    card, display = real.name, ProgressDisplay()
    report: CardsReport | None = None
    untold: Problems = ()
    try:
        report = TakingUp(site.places).shown(lambda found: is_locked(found, card))
    except NotTakenUpError as error:
        # What runs is stopped all the same; but whoever starts instances has not heard that none is to be on this card.
        untold = error.problems
    try:
        found = give_up(real, wait_s=wait_s, clock=SystemClock(), on_waiting=display.waiting)
    finally:
        display.close()
    if found.left:
        raise StepFailedError((*untold, *real.problems, _ours_left(card, found)))
    if report is None:
        raise NotTakenUpError([replace(one, detail=f"{one.detail} {_stays(card)}", address=card) for one in untold])
    if found.holders.unknown and not found.holders.found:
        raise UnreachableError((_not_certain(card, found.holders.unknown),))
    return Release(card, found, before, report)


def _stays(card: str) -> str:
    return f"{card} stays locked out, and nothing of ours runs on it now, but it may be started there again."


def release_lines(found: Release) -> Iterator[str]:
    """Say it in words."""
    given_up, card = found.given_up, found.card
    yield profile_words(found.report, found.before)
    if given_up.finished:
        yield f"Finished what it had: {', '.join(given_up.finished)}."
    if given_up.stopped:
        yield f"Stopped: {', '.join(given_up.stopped)}."
    if given_up.is_free:
        yield f"{card} is free, after {given_up.took_s:.1f} s. `kloros-infra gpu return {card}` takes it back."
        return
    yield f"{card} is not free. Nothing of ours starts on it any more, but it is used by:"
    yield from (f"  {_holder(holder)}" for holder in given_up.holders.found)
    if given_up.holders.unknown:
        yield f"There may be more: {given_up.holders.unknown}."
    yield f"End them and run the command again, or take the GPU back: `kloros-infra gpu return {card}`."


def _holder(holder: CardHolder) -> str:
    """Name one process; one of ours that has no share of the card has opened it all the same, as CUDA does."""
    user = f" of {holder.user}" if holder.user else ""
    held = "which has it open" if holder.held_bytes is None else f"with {size_text(holder.held_bytes)}"
    works = ", which works on other GPUs" if is_instance(holder.unit) else ""
    ours = f" ({holder.unit}{works})" if holder.unit else ""
    return f"process {holder.pid}, {holder.name}{user}{ours}, {held}"


def release_data(found: Release) -> Mapping[str, Any]:
    """Say it for programs."""
    given_up = found.given_up
    return {
        "version": JSON_VERSION,
        "card": found.card,
        "is_free": given_up.is_free,
        "holders": [asdict(holder) for holder in given_up.holders.found],
        "unknown": given_up.holders.unknown,
        "finished": list(given_up.finished),
        "stopped": list(given_up.stopped),
        "took_s": round(given_up.took_s, 3),
        "profile": found.report.profile,
        "reason": found.report.reason,
    }


def _ours_left(card: str, found: GivenUp) -> Diagnostic:
    return Diagnostic(
        code="KI922",
        summary="GPU could not be given up",
        detail=f"{', '.join(found.left)} did not end within {found.took_s:.0f} s. {card} stays locked out.",
        hint="Stop it by hand as root and run the command again; `kloros-infra logs` says what it does.",
        address=card,
    )


def _not_certain(card: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI923",
        summary="Nobody can say who uses the GPU",
        detail=f"Nothing of ours runs on {card}, and it stays locked out; but {reason}.",
        hint="Run the command as root: then it finds every process that has the GPU open.",
        address=card,
    )
