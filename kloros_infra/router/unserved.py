"""Say why a request that could have been served was not: one function per diagnostic, KI870 to KI873 and KI876."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.board import Local, Station
from kloros_infra.router.events import Outcome
from kloros_infra.router.last_words import last_words
from kloros_infra.router.query import Refused

WORDS = {
    Outcome.UNREACHED: "could not be reached",
    Outcome.SILENT: "did not begin its answer in time",
    Outcome.UNAVAILABLE: "says that it is not available",
    Outcome.BUSY: "says that it has too much to do",
    Outcome.LOADING: "says that it still loads its model",
    Outcome.BROKEN: "broke off before it answered",
    Outcome.STALLED: "stopped before it answered",
}


def too_late(model_id: str | None, waited_s: float) -> Diagnostic:
    """Refuse what has waited until its deadline."""
    where = f" in the line of '{model_id}'" if model_id else ""
    return Diagnostic(
        code="KI870",
        summary="Not served in time",
        detail=f"The request waited {waited_s:.1f} s{where}, and its deadline has passed.",
        hint="Allow more time, or ask again when there is less to do; `kloros-infra status` shows what waits.",
    )


def line_full(model_id: str, waiting: int) -> Diagnostic:
    """Refuse where as many wait as may."""
    return Diagnostic(
        code="KI871",
        summary="Line is full",
        detail=f"{waiting} requests wait for '{model_id}' already, and no more may.",
        hint="Ask again later; `bridge.max_queued` in models.yaml says how many may wait.",
    )


def load_failed(local: Local) -> Diagnostic:
    """Refuse for good: what does not load will not load by asking again."""
    life = local.life
    return Diagnostic(
        code="KI872",
        summary="Model does not load",
        detail=last_words(local.upstream.unit, life.reason, life.last_lines),
        hint="It is tried again when its definition or weights change, or when an operator starts it.",
    )


def attempts_failed(target: str, outcome: Outcome, attempts: int) -> Diagnostic:
    """Refuse after the last attempt has failed."""
    return Diagnostic(
        code="KI873",
        summary="Upstream failed",
        detail=f"'{target}' {WORDS[outcome]}, and this was attempt {attempts}.",
        hint="Ask again in a moment; `kloros-infra status` shows what is down.",
    )


def card_closed(instance: str, why: str) -> Diagnostic:
    """Refuse for now: what would serve needs a card that is not to be used."""
    return Diagnostic(
        code="KI876",
        summary="Card not to be used",
        detail=f"'{instance}' cannot run now: {why}.",
        hint="`kloros-infra gpu list` shows how the cards stand, and until when.",
    )


def none_of(stations: Sequence[Station], refused: Refused) -> Diagnostic:
    """Say why none of the targets can serve: for the one reason, where there is one."""
    locals_ = [station for station in stations if isinstance(station, Local)]
    failed = next((local for local in locals_ if local.life.reason), None)
    if not refused.is_temporary:
        return load_failed(failed) if failed and refused.problem.code == "KI809" else refused.problem
    barred = [(local.name, local.bar.why) for local in locals_ if local.bar is not None]
    return card_closed(*barred[0]) if barred and len(barred) == len(stations) else refused.problem
