"""Times until which something holds, as people write them: a time of day, how long from now, or a date."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Any

import click

from kloros_infra.planner.figures import seconds_text

_LASTING = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_SOON_S = 3600
_EXAMPLES = "such as 22:00, 2h, 2026-01-31 or 2026-01-31T22:00"


def read_until(text: str, now: datetime) -> datetime:
    """Give the instant that is meant, in this machine's time zone; raise ValueError with the reason for what is none.

    A time of day that is past is tomorrow's.
    """
    word = text.strip()
    until: datetime | None
    try:
        until = _instant(word, now)
    except (ValueError, OverflowError):
        until = None
    # In the calendar's last year, another time zone or a second more may lead out of it.
    if until is None or until.year == datetime.max.year:
        raise ValueError(f"{text!r} is not a time {_EXAMPLES}.")
    if until <= now:
        raise ValueError(f"{text!r} is past.")
    # Files have whole seconds, and what is cut off may be all that is left.
    return until.replace(microsecond=0) + timedelta(seconds=1) if until.microsecond else until


def _instant(word: str, now: datetime) -> datetime:
    if found := _LASTING.fullmatch(word):
        return (now + timedelta(seconds=float(found[1]) * _SECONDS[found[2]])).astimezone()
    if _TIME_OF_DAY.fullmatch(word):
        return _next_at(time.fromisoformat(word if word[1] != ":" else f"0{word}"), now)
    said = datetime.fromisoformat(word)
    return said.astimezone() if said.tzinfo is not None else _first_after(now, *_local(said))


def _next_at(clock: time, now: datetime) -> datetime:
    today = datetime.combine(now.astimezone().date(), clock)
    # What is added is a day of the calendar: it has 23 hours or 25 where clocks are changed.
    return _first_after(now, *_local(today), *_local(today + timedelta(days=1)))


def _local(naive: datetime) -> tuple[datetime, datetime]:
    """Give the instants that a time of this machine's clocks means: two where they are set back, PEP 495.

    A time that clocks leave out is taken by those before the change, which is as much later by those after it.
    """
    first, second = (datetime.fromtimestamp(naive.replace(fold=fold).timestamp()).astimezone() for fold in (0, 1))
    return first, max(first, second)


def _first_after(now: datetime, *instants: datetime) -> datetime:
    """Give the first instant to come, or the last of all where all are past."""
    return next((instant for instant in instants if instant > now), instants[-1])


def when(until: datetime, now: datetime) -> str:
    """Write an instant as people here say it: with its day where that is not today."""
    local, today = until.astimezone(), now.astimezone().date()
    clock = local.strftime("%H:%M" if local.second == 0 else "%H:%M:%S")
    if local.date() == today:
        return clock
    day = "tomorrow" if local.date() == today + timedelta(days=1) else local.date().isoformat()
    return f"{day} {clock}"


def at(until: datetime, now: datetime) -> str:
    """Write when something happens: at an instant, and how soon that is where it is soon."""
    said = when(until, now)
    left_s = (until - now).total_seconds()
    soon = f", in {seconds_text(left_s)}" if 0 < left_s < _SOON_S else ""
    return f"{said if said.startswith('tomorrow') else f'at {said}'}{soon}"


class Until(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """An instant to come."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Give the instant."""
        if isinstance(value, datetime):
            return value
        try:
            return read_until(str(value), datetime.now().astimezone())
        except ValueError as error:
            self.fail(str(error), param, ctx)


UNTIL = Until()
