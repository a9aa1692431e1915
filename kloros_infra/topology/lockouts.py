"""Read lockout files (design document, section 5.4): cards that somebody keeps from us, why, and until when.

What cannot be understood is told and takes nothing away: what such a file said last stays in force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictStr, ValidationError
from pydantic_core import PydanticCustomError

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_facts import DeclaredCard, Lockout, PolicyFile, PolicySource
from kloros_infra.topology.card_tokens import card_of
from kloros_infra.topology.lockout_problems import not_readable, not_understood, unknown_card, unknown_keys

LONGEST_REASON = 200
FIRST_YEAR, LAST_YEAR = 1971, 9998
"""Beyond these, conversions between time zones may fail: what ends earlier has ended, what ends later never does."""
# The design document's example bears a comment; between quotes, two slashes are text.
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')
_FEW_DIGITS = re.compile(r"\s*\d{1,8}\s*", re.ASCII)
"""Too few for seconds since 1970, which have had nine digits since 1973."""


def _tokens(value: object) -> object:
    """Take one card as a list of one, and an index as the text that it is elsewhere."""
    listed = value if isinstance(value, list) else [value]
    return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in listed]


def _moment(value: object) -> object:
    """Refuse digits that look like a time of the day or a date: they would be taken for seconds since 1970."""
    if isinstance(value, int | str) and _FEW_DIGITS.fullmatch(str(value)):
        raise PydanticCustomError("moment", "{digits} is neither a date nor seconds since 1970", {"digits": str(value)})
    return value


class LockoutFile(BaseModel):
    """The file as people write it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    lockout_gpus: Annotated[tuple[StrictStr, ...], BeforeValidator(_tokens)]
    reason: StrictStr | None = None
    until: Annotated[datetime | None, BeforeValidator(_moment)] = None


KEYS = tuple(LockoutFile.model_fields)


LocalTime = Callable[[datetime], datetime]
"""Gives the instant that a time without a zone means on this machine (adapters.local_time)."""


def read_sources(
    files: Iterable[PolicyFile], cards: Sequence[DeclaredCard], local_time: LocalTime
) -> tuple[PolicySource, ...]:
    """Read every lockout file; `cards` are those that people may name."""
    return tuple(read_lockouts(file, cards, local_time) for file in files)


def read_lockouts(file: PolicyFile, cards: Sequence[DeclaredCard], local_time: LocalTime) -> PolicySource:
    """Read one lockout file; what is wrong with it is told."""
    if file.text is None:
        return PolicySource(file.name, None, (not_readable(file),), file.others)
    try:
        found = LockoutFile.model_validate_json(_COMMENT.sub(lambda match: match[1] or "", file.text))
    except ValidationError as error:
        return PolicySource(file.name, None, (not_understood(file.name, error),))
    named = [(token, card_of(token, cards)) for token in found.lockout_gpus]
    reason, until = _on_one_line(found.reason or ""), _instant(found.until, local_time)
    lockouts = (Lockout(card, reason, until) for card in dict.fromkeys(card for _, card in named) if card)
    unknown = [token for token, card in named if card is None]
    return PolicySource(file.name, tuple(lockouts), tuple(_warnings(file.name, found, unknown, cards)))


def _warnings(
    name: str, found: LockoutFile, unknown: Iterable[str], cards: Sequence[DeclaredCard]
) -> Iterator[Diagnostic]:
    yield from (unknown_card(name, token, cards) for token in dict.fromkeys(unknown))
    if found.model_extra:
        yield unknown_keys(name, sorted(found.model_extra), KEYS)


def _instant(until: datetime | None, local_time: LocalTime) -> datetime | None:
    """Give the instant at which a lockout ends, None where it never does."""
    if until is None or until.year > LAST_YEAR:
        return None
    if until.year < FIRST_YEAR:
        return datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    return until if until.tzinfo is not None else local_time(until)


def _on_one_line(text: str) -> str:
    """Make a reason fit to be shown: it cannot steer the terminal, nor fill the screen."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.split())[:LONGEST_REASON]
