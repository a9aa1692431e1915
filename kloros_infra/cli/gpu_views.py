"""`gpu list`: how the cards stand, as a table and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kloros_infra.agent.facts import cards_of
from kloros_infra.cli.gpu_site import GpuSite, read_report
from kloros_infra.cli.gpu_wiring import consider_here
from kloros_infra.cli.table import table
from kloros_infra.cli.until import at, when
from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.ir.cards_report import CardsReport, ReportedCard, ReportedHolder
from kloros_infra.planner.figures import amount_text, seconds_text, size_text

JSON_VERSION = 1
HEADER = ("GPU", "STATE", "MEMORY", "USED BY OTHERS", "UNTIL", "WHY")
NOTHING = "-"
MIB = 2**20
BAR_WIDTH = 20
LATEST_S = datetime(datetime.max.year, 1, 1, tzinfo=UTC).timestamp()
OURS, OTHERS, UNKNOWN, FREE = "#", "+", "?", "."
LEGEND = f"Memory: {OURS} ours, {OTHERS} of others, {UNKNOWN} in use, it is not known by whom, {FREE} free."
SHOWN_HOLDERS = 3


@dataclass(frozen=True, slots=True)
class GpuList:
    """How the cards stand: as was noted at a time, or as was just found, where nobody notes it."""

    report: CardsReport
    written: datetime | None
    is_pending: bool = False
    """Whether something has changed that nobody has looked at yet."""
    shared_with: Mapping[str, str] = field(default_factory=dict)
    """Who else uses a card, in the words of models.yaml."""


def read_list(site: GpuSite, *, follows: bool | None) -> GpuList:
    """Read how the cards stand; or find out without changing anything, where nobody `follows` them who would note it.

    That may not be known: then what is noted counts.
    """
    where = site.where
    shared_with = {name: card.shared_with for name, card in site.routed.items() if card.shared_with}
    report = read_report(where) if cards_of(site.table) and follows is not False else None
    if report is None:
        found = consider_here(site.places, site.table)[0]
        return GpuList(found, None, shared_with=shared_with)
    written = (where.root / where.layout.cards_file).stat().st_mtime
    is_pending = (where.root / where.layout.dirty_file).exists()
    return GpuList(report, datetime.fromtimestamp(written).astimezone(), is_pending, shared_with)


def list_lines(found: GpuList, now: datetime) -> Iterator[str]:
    """Write the active profile and why, one row for each card, and what is noticeable."""
    report = found.report
    yield f"Profile {report.profile}{_pinned(report)}: {report.reason}"
    if following := next_words(report, now):
        yield following
    yield ""
    yield from table([HEADER, *(_row(card, found.shared_with, now) for card in report.cards)])
    yield ""
    if any(card.used_mib is not None for card in report.cards):
        yield LEGEND
    yield _age(found, now)
    yield from (f"Other hardware: {change}." for change in report.hardware_changes)


def problems_in(report: CardsReport) -> Problems:
    """Give what is wrong with the cards and with what people want of them."""
    return tuple(
        Diagnostic(one.code, one.summary, one.detail, one.hint, severity=Severity(one.severity))
        for one in report.problems
    )


def list_data(found: GpuList) -> Mapping[str, Any]:
    """Write the same for programs; memory is in MiB, times are in seconds since 1970."""
    report = found.report.model_dump(mode="json")
    written = None if found.written is None else found.written.timestamp()
    added = {"written_epoch_s": written, "is_pending": found.is_pending, "shared_with": dict(found.shared_with)}
    return {**report, "version": JSON_VERSION, **added}


def _pinned(report: CardsReport) -> str:
    if report.pin is None:
        return ""
    return ", pinned" if report.pin == report.profile else f" ({report.pin} is pinned)"


def _row(card: ReportedCard, shared_with: Mapping[str, str], now: datetime) -> Sequence[str]:
    until = NOTHING if card.until_epoch_s is None else when(instant(card.until_epoch_s), now)
    is_shared = not card.is_eligible and card.card in shared_with
    why = f"{card.reason}; shared with {shared_with[card.card]}" if is_shared else card.reason
    return (card.card, card.state, _memory(card), _holders(card.holders), until, why)


def _memory(card: ReportedCard) -> str:
    if card.total_mib is None:
        return NOTHING
    if card.used_mib is None:
        return size_text(card.total_mib * MIB)
    return f"[{bar(card.total_mib, card.used_mib, card.foreign_mib)}] {_sizes(card.used_mib, card.total_mib)}"


def _sizes(used_mib: int, total_mib: int) -> str:
    return f"{size_text(used_mib * MIB)} of {size_text(total_mib * MIB)}"


def bar(total_mib: int, used_mib: int, foreign_mib: int | None) -> str:
    """Draw a card's memory; whatever is in use is seen, be it ever so little."""
    others = _cells(foreign_mib or 0, total_mib)
    used = max(_cells(used_mib, total_mib), others)
    ours = used - others
    if foreign_mib is not None and used_mib > foreign_mib and ours == 0 and used < BAR_WIDTH:
        ours = 1
    mark = OURS if foreign_mib is not None else UNKNOWN
    return (mark * ours + OTHERS * others).ljust(BAR_WIDTH, FREE)


def _cells(amount_mib: int, total_mib: int) -> int:
    if amount_mib <= 0 or total_mib <= 0:
        return 0
    return min(BAR_WIDTH, max(1, round(BAR_WIDTH * amount_mib / total_mib)))


def _holders(holders: Sequence[ReportedHolder]) -> str:
    if not holders:
        return NOTHING
    shown = [_holder(holder) for holder in holders[:SHOWN_HOLDERS]]
    more = len(holders) - SHOWN_HOLDERS
    return ", ".join([*shown, *([f"{more} more"] if more > 0 else [])])


def _holder(holder: ReportedHolder) -> str:
    held = "" if holder.held_mib is None else f" {size_text(holder.held_mib * MIB)}"
    return f"{holder.name} ({holder.pid}){held}"


def _age(found: GpuList, now: datetime) -> str:
    if found.written is None:
        return "Nobody follows the GPUs here: this is how they stand at this moment."
    if found.is_pending:
        return "Something has changed, and nobody has looked at it yet: does kloros-gpu.service run?"
    age_s = max(0.0, (now - found.written).total_seconds())
    return f"So since {when(found.written, now)}, {seconds_text(age_s)} ago."


def instant(epoch_s: float) -> datetime:
    """Give an instant of a report, to the second; what is too far away for a calendar is as far as one goes."""
    return datetime.fromtimestamp(round(min(max(epoch_s, 0.0), LATEST_S))).astimezone()


def next_words(report: CardsReport, now: datetime) -> str:
    """Say which profile follows if nothing happens, and when; or when something else changes by itself."""
    if report.next_profile is not None and report.next_epoch_s is not None:
        return f"If nothing changes, {report.next_profile} follows {at(instant(report.next_epoch_s), now)}."
    if report.held_until_epoch_s is not None:
        changes = at(instant(report.held_until_epoch_s), now)
        return f"If nothing changes, {report.profile} stays; the state of a GPU changes {changes}."
    return ""


def summary_lines(report: CardsReport, now: datetime) -> Iterator[str]:
    """Say in a line or two what `status` tells of cards, if there are any: why the profile is, and what is amiss."""
    if not report.cards:
        return
    yield f"Why {report.profile}{_pinned(report)}: {report.reason}"
    if report.next_profile is not None:
        yield next_words(report, now)
    yield from (f"Other hardware: {change}." for change in report.hardware_changes)
    if report.problems:
        yield f"`kloros-infra gpu list` tells of {amount_text(len(report.problems), 'problem')} with the GPUs."
