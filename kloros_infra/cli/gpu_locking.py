"""`gpu lock`, `unlock`, `return`, `pin`, `unpin` and `clear`: write down what is wanted, and say what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kloros_infra.agent.facts import BY_MODELS_YAML
from kloros_infra.cli.gpu_site import GpuSite, UnknownNameError, lockouts_of, read_report
from kloros_infra.cli.gpu_taking_up import TakingUp, not_taken_up, unless_interrupted
from kloros_infra.cli.gpu_views import instant, next_words
from kloros_infra.cli.gpu_wishes import (
    Owner,
    lockout_path,
    note_cleared,
    remove_lockout,
    remove_pin,
    write_lockout,
    write_pin,
)
from kloros_infra.cli.until import when
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.card_facts import Lockout
from kloros_infra.ir.cards_report import CardsReport, ReportedCard

LOCKED = "locked"
QUARANTINED = "quarantined"
JSON_VERSION = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has to say: in words, and how everything stands now, None where nobody was waited for."""

    words: str
    report: CardsReport | None = None
    card: str | None = None

    def data(self) -> Mapping[str, Any]:
        """Give the same for programs."""
        report = self.report
        card = None if report is None or self.card is None else card_in(report, self.card)
        return {
            "version": JSON_VERSION,
            "message": self.words,
            "card": None if card is None else card.model_dump(mode="json"),
            "profile": None if report is None else report.profile,
            "reason": None if report is None else report.reason,
            "pin": None if report is None else report.pin,
            "next_profile": None if report is None else report.next_profile,
            "next_epoch_s": None if report is None else report.next_epoch_s,
        }


def lock(site: GpuSite, lockout: Lockout, now: datetime, *, waits: bool) -> Outcome:
    """Lock a card out; say which profile follows."""
    before = read_report(site.where)
    write_lockout(site, lockout, Owner.LOCK)
    with unless_interrupted(f"{lockout.card} is locked out."):
        if not waits:
            TakingUp(site.places).told()
            return Outcome(_locked_words(site, lockout, lockout.until, now), None, lockout.card)
        report = TakingUp(site.places).shown(lambda found: is_locked(found, lockout.card))
    words = _locked_words(site, lockout, _until(report, lockout.card), now)
    return Outcome(f"{words} {profile_words(report, before)}", report, lockout.card)


def _until(report: CardsReport, card: str) -> datetime | None:
    """Say when a card's state changes by itself: of several lockouts the last counts."""
    found = card_in(report, card)
    return None if found is None or found.until_epoch_s is None else instant(found.until_epoch_s)


def _locked_words(site: GpuSite, lockout: Lockout, until: datetime | None, now: datetime) -> str:
    card, ends = lockout.card, "" if until is None else f" until {when(until, now)}"
    others = lockouts_of(site, card, now).keys() - {lockout_path(site, card, Owner.LOCK)}
    if not others:
        return f"{card} is locked out{ends}. `kloros-infra gpu unlock {card}` ends that."
    files = ", ".join(_shown(site, path) for path in sorted(others))
    return f"{card} is locked out{ends}, by {files} as well. `kloros-infra gpu unlock {card}` ends this lockout alone."


def unlock_named(site: GpuSite, token: str, owner: Owner, now: datetime) -> Outcome:
    """End a lockout that a command made, also of a card that is in no profile any more; raise UnknownNameError."""
    try:
        card = site.card(token).name
    except UnknownNameError:
        is_name = bool(token) and not token.startswith(".") and not set(token) & {"/", "@", "\0"}
        if not is_name or not remove_lockout(site, token, owner):
            raise
        TakingUp(site.places).told()
        return Outcome(f"{token} is none of the GPUs that profiles use here; its lockout is removed.")
    return unlock(site, card, owner, now)


def unlock(site: GpuSite, card: str, owner: Owner, now: datetime) -> Outcome:
    """End a lockout that a command made; raise ObstacleError (KI919) where the card stays locked out by others."""
    was_ours = remove_lockout(site, card, owner)
    others = lockouts_of(site, card, now)
    if others:
        TakingUp(site.places).told()
        raise ObstacleError([_locked_by(site, card, path, lockout) for path, lockout in sorted(others.items())])
    before = read_report(site.where)
    if not was_ours and (before is None or not is_locked(before, card)):
        return Outcome(f"{card} is not locked out.", before, card)
    with unless_interrupted(f"The lockout of {card} is ended."):
        taken = TakingUp(site.places).latest(lambda found: not is_locked(found, card))
    found = None if taken.report is None else card_in(taken.report, card)
    if found is not None and found.state == LOCKED:
        raise ObstacleError([not_taken_up(taken.obstacle) if taken.obstacle else _still_locked(found)])
    words = (f"{card} is not locked out any more.", *_prospects(taken.report, card, now))
    return Outcome(" ".join(words), taken.report, card)


def pin(site: GpuSite, profile: str) -> Outcome:
    """Have a profile active whenever its cards may be used."""
    write_pin(site, profile)
    with unless_interrupted(f"{profile} is pinned."):
        report = TakingUp(site.places).shown(lambda found: found.pin == profile)
    words = f"{profile} is pinned until `kloros-infra gpu unpin`."
    return Outcome(f"{words} {profile_words(report, None)}", report)


def unpin(site: GpuSite, now: datetime) -> Outcome:
    """Have the best profile active again whose cards may be used."""
    if not remove_pin(site):
        return Outcome("No profile is pinned.", read_report(site.where))
    with unless_interrupted("No profile is pinned any more."):
        report = TakingUp(site.places).shown(lambda found: found.pin is None)
    words = ("No profile is pinned any more.", profile_words(report, None), *_next(report, now))
    return Outcome(" ".join(words), report)


def clear(site: GpuSite, card: str, now: datetime) -> Outcome:
    """Take a card out of quarantine; raise ObstacleError (KI921) where it has its fault still."""
    before = read_report(site.where)
    known = None if before is None else card_in(before, card)
    if known is not None and known.state not in (QUARANTINED, LOCKED):
        return Outcome(f"{card} is not in quarantine.", before, card)
    note_cleared(site, card, now.timestamp())
    with unless_interrupted(f"What was reported of {card} is of the past."):
        taken = TakingUp(site.places).latest(lambda found: not _is(found, card, QUARANTINED))
    found = None if taken.report is None else card_in(taken.report, card)
    if found is not None and found.state == QUARANTINED:
        raise ObstacleError([not_taken_up(taken.obstacle) if taken.obstacle else _still_faulty(found)])
    if found is not None and found.state == LOCKED:
        # Whether it has a fault beside is not in the report.
        done = f"What was reported of {card} is of the past."
    else:
        any_more = " any more" if known is not None and known.state == QUARANTINED else ""
        done = f"{card} is not in quarantine{any_more}."
    return Outcome(" ".join((done, *_prospects(taken.report, card, now))), taken.report, card)


def is_locked(report: CardsReport, card: str) -> bool:
    """Say whether a report shows a card as locked out."""
    return _is(report, card, LOCKED)


def _is(report: CardsReport, card: str, state: str) -> bool:
    found = card_in(report, card)
    return found is not None and found.state == state


def card_in(report: CardsReport, card: str) -> ReportedCard | None:
    """Find a card in a report."""
    return next((one for one in report.cards if one.card == card), None)


def profile_words(report: CardsReport, before: CardsReport | None) -> str:
    """Say which profile is active, and whether that has changed."""
    if before is None or before.profile == report.profile:
        return f"The profile is {report.profile}: {report.reason}"
    return f"The profile is {report.profile} now, it was {before.profile}: {report.reason}"


def _prospects(report: CardsReport | None, card: str, now: datetime) -> tuple[str, ...]:
    """Say when a card will be used again."""
    found = None if report is None else card_in(report, card)
    if report is None or found is None:
        return ()
    if found.is_eligible:
        return (profile_words(report, None), *_next(report, now))
    why = "" if found.reason == found.state else f" ({found.reason})"
    return (f"It is {found.state}{why}.", *_next(report, now))


def _next(report: CardsReport, now: datetime) -> tuple[str, ...]:
    return () if report.next_profile is None else (next_words(report, now),)


def _locked_by(site: GpuSite, card: str, path: str, lockout: Lockout) -> Diagnostic:
    """Say who else locks a card out, and how that is lifted."""
    remedies = {
        BY_MODELS_YAML: f"Take `lockout` from gpus.{card} in models.yaml, and apply.",
        lockout_path(site, card, Owner.LOCK): f"`kloros-infra gpu unlock {card}` ends it.",
        lockout_path(site, card, Owner.RELEASE): f"`kloros-infra gpu return {card}` ends it.",
    }
    why = f", for: {lockout.reason}" if lockout.reason else ""
    return Diagnostic(
        code="KI919",
        summary="GPU stays locked out",
        detail=f"{card} is locked out by {_shown(site, path)}{why}.",
        hint=remedies.get(path, "Remove that file, or take the GPU out of it; it is not this command's."),
        address=card,
    )


def _shown(site: GpuSite, path: str) -> str:
    return path if path == BY_MODELS_YAML else str(site.where.root / path)


def _still_locked(card: ReportedCard) -> Diagnostic:
    return Diagnostic(
        code="KI919",
        summary="GPU stays locked out",
        detail=f"{card.card} is {card.reason}, though no file that can be understood says so any more.",
        hint="What a damaged file said last stays in force: `kloros-infra gpu list` names it. Mend or remove it.",
        address=card.card,
    )


def _still_faulty(card: ReportedCard) -> Diagnostic:
    return Diagnostic(
        code="KI921",
        summary="GPU has its fault still",
        detail=f"{card.card} is {card.reason}, and the driver says so still.",
        hint="Reset it (`nvidia-smi --gpu-reset`) or reboot; then it is taken out of quarantine by itself.",
        address=card.card,
    )
