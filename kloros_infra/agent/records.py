"""Two small records below /run: what the driver reported of cards in this boot, and which faults are of the past.

What is damaged, or of another boot, is as none: the driver says again what lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kloros_infra.ir.card_facts import Fault, FaultKind

VERSION: Final = 1
_NEXT_S = 0.001
"""How far apart events are dated, at least; at the times of now a double knows less than a microsecond."""
_Times = TypeAdapter(dict[str, float])


class RecordedEvent(BaseModel):
    """One kind of event of one card, and when it was last reported."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    card: str
    xid: int
    epoch_s: float

    @property
    def fault(self) -> Fault:
        return Fault(FaultKind.XID, self.epoch_s, self.xid)


class _Events(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    boot_id: str
    events: tuple[RecordedEvent, ...]


def read_events(text: str | None, boot_id: str) -> tuple[RecordedEvent, ...]:
    """Read the record of events."""
    try:
        found = _Events.model_validate_json(text or "")
    except ValidationError:
        return ()
    return found.events if found.boot_id == boot_id else ()


def events_text(events: Iterable[RecordedEvent], boot_id: str) -> str:
    """Write the record of events: the latest of each kind of each card, so that it never grows."""
    latest: dict[tuple[str, int], RecordedEvent] = {}
    for event in sorted(events, key=lambda event: event.epoch_s):
        latest[event.card, event.xid] = event
    kept = tuple(latest[key] for key in sorted(latest))
    return _Events(version=VERSION, boot_id=boot_id, events=kept).model_dump_json() + "\n"


def dated_after(event: RecordedEvent, before: Iterable[RecordedEvent]) -> RecordedEvent:
    """Give an event a time after those of its card that are recorded, also where the clock was set back since."""
    latest_s = latest_epoch_s(before, event.card)
    if latest_s is None or event.epoch_s > latest_s:
        return event
    return event.model_copy(update={"epoch_s": latest_s + _NEXT_S})


def latest_epoch_s(events: Iterable[RecordedEvent], card: str) -> float | None:
    """Say when a card's last event was, by the clock of then."""
    return max((event.epoch_s for event in events if event.card == card), default=None)


def read_cleared(text: str | None) -> Mapping[str, float]:
    """Read when each card's faults were declared to be of the past, in seconds since 1970."""
    try:
        return _Times.validate_json(text or "")
    except ValidationError:
        return {}


def cleared_text(cleared: Mapping[str, float]) -> str:
    """Write what `read_cleared` reads."""
    return _Times.dump_json(dict(sorted(cleared.items()))).decode() + "\n"
