"""Answer a request once, however often it arrives (ZeroMQ guide, chapter 4: Lazy Pirate).

The bus is at most once, so clients send again, with the same bytes or with others; KLoROS's publishers send the first
message of each topic twice, 150 ms apart, which asks nothing a second time. Time comes in as `now`, monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# A resend may overtake nothing, so only the newest messages of an id can come twice; the first is kept for its double.
REMEMBERED_MESSAGES = 4
DOUBLE_S = 1.0
"""The same bytes within so long are one message that was sent twice; later they ask again."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """Not seen before: answer it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Seen before: say nothing. `is_waiting` while its answer is still to come."""

    is_waiting: bool


@dataclass(frozen=True, slots=True)
class Repeat:
    """Asked again after the answer was given: the answer may have been lost, send it again."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class AnsweredBefore:
    """Asked again after the answer was given, and the answer is not known any more."""


@dataclass(frozen=True, slots=True)
class InUse:
    """Another question under this id is being answered: its answer is not this one's."""


Arrival = Fresh | Dropped | Repeat | AnsweredBefore | InUse

_FRESH, _WAITS, _DOUBLE, _ANSWERED_BEFORE, _IN_USE = Fresh(), Dropped(True), Dropped(False), AnsweredBefore(), InUse()


class Kept(NamedTuple):
    """An answered request: `question` is the digest of what it asked, `answer` None where it was too large to keep."""

    request_id: str
    question: bytes
    answer: bytes | None
    answered_at: float


@dataclass(slots=True)
class _Entry:
    """The newest messages of one request id, and its answer once there is one.

    A refusal that may be gone in a moment is no answer to keep: `may_ask_again` holds instead.
    """

    messages: tuple[tuple[int, float], ...]
    """Digests of what may come twice, and when each came."""
    question: bytes
    answer: bytes | None = None
    answered_at: float = 0.0
    may_ask_again: bool = False

    def take(self, digest: int, now: float, double_s: float) -> bool:
        """Note a message, unless it is the double of another: say whether it is."""
        recent = [one for one in self.messages if now - one[1] < double_s]
        if any(one[0] == digest for one in recent):
            return True
        self.messages = (*recent[:1], *recent[1:][-(REMEMBERED_MESSAGES - 2) :], (digest, now))
        return False


class Ledger:
    """What was asked and answered lately, bounded in age, number and bytes of answers.

    Requests in flight are never forgotten: whoever answers them bounds their number.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 600.0,
        max_answers: int = 4096,
        max_bytes: int = 64 * 2**20,
        double_s: float = DOUBLE_S,
    ) -> None:
        self._ttl_s = ttl_s
        self._double_s = double_s
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._in_flight: dict[str, _Entry] = {}
        # In the order in which they were answered; a dict would take ever longer to find its first.
        self._answered: OrderedDict[str, _Entry] = OrderedDict()
        self._expires_at = 0.0
        self._bytes = 0

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def answer_bytes(self) -> int:
        return self._bytes

    def restore(self, kept: Iterable[Kept], *, now: float) -> None:
        """Know what was answered before a restart, oldest first."""
        for request_id, question, answer, answered_at in kept:
            self._forget(request_id)
            # The wall clock may have been set back since.
            self._keep(request_id, _Entry((), question, answer, min(answered_at, now)))
        self._shrink(now)

    def kept(self) -> Iterator[Kept]:
        """Give what a restart must not forget, oldest first."""
        for request_id, entry in self._answered.items():
            if not entry.may_ask_again:
                yield Kept(request_id, entry.question, entry.answer, entry.answered_at)

    def knows(self, request_id: str) -> bool:
        """Say whether an id is being answered, or was lately."""
        return request_id in self._in_flight or request_id in self._answered

    def is_taken(self, request_id: str, question: bytes) -> bool:
        """Say whether an id that is known belongs to another question."""
        entry = self._in_flight.get(request_id) or self._answered.get(request_id)
        return entry is not None and entry.question != question

    def arrived(
        self, request_id: str, message: bytes, *, now: float, question: bytes = b"", may_double: bool = True
    ) -> Arrival:
        """Say what to do with a message; a fresh one counts as in flight from here.

        `question` is a digest of what it asks, without what differs from one sending to the next: an id
        that was answered may be used again for another question, as counters of restarted clients do.
        `may_double` where a message may come twice though it was sent but once.
        """
        # Not sha256: what is compared are the few messages of one id.
        seen = ((hash(message), now),) if may_double else ()
        entry = self._in_flight.get(request_id)
        is_answered = entry is None
        if entry is None:
            if now >= self._expires_at:
                self._expire(now)
            entry = self._answered.get(request_id)
        if entry is None:
            return self._begin(request_id, question, seen)
        is_other = entry.question != question
        if seen and entry.take(*seen[0], self._double_s):
            return _DOUBLE if is_answered or is_other else _WAITS
        if not is_answered:
            return _IN_USE if is_other else _WAITS
        if entry.may_ask_again or is_other:
            self._forget(request_id)
            return self._begin(request_id, question, seen)
        return _ANSWERED_BEFORE if entry.answer is None else Repeat(entry.answer)

    def _begin(self, request_id: str, question: bytes, seen: tuple[tuple[int, float], ...]) -> Fresh:
        self._in_flight[request_id] = _Entry(seen, question)
        return _FRESH

    def answered(self, request_id: str, answer: bytes, *, now: float, is_temporary: bool = False) -> Kept | None:
        """Keep the answer of a request in flight for those who ask again; a temporary refusal is not kept."""
        entry = self._in_flight.pop(request_id)
        entry.answered_at, entry.may_ask_again = now, is_temporary
        entry.answer = None if is_temporary else answer
        self._keep(request_id, entry)
        self._shrink(now)
        return None if is_temporary else Kept(request_id, entry.question, answer, now)

    def _keep(self, request_id: str, entry: _Entry) -> None:
        self._answered[request_id] = entry
        self._bytes += len(entry.answer or b"")

    def _shrink(self, now: float) -> None:
        if now >= self._expires_at:
            self._expire(now)
        while len(self._answered) > self._max_answers or self._bytes > self._max_bytes:
            self._forget_oldest()

    def _expire(self, now: float) -> None:
        """Forget what is too old, and note when to look again: not before the oldest of now can be."""
        while self._answered:
            oldest = next(iter(self._answered.values()))
            self._expires_at = oldest.answered_at + self._ttl_s
            if now < self._expires_at:
                return
            self._forget_oldest()
        self._expires_at = now + self._ttl_s

    def _forget_oldest(self) -> None:
        _, entry = self._answered.popitem(last=False)
        self._bytes -= len(entry.answer or b"")

    def _forget(self, request_id: str) -> None:
        entry = self._answered.pop(request_id, None)
        if entry is not None:
            self._bytes -= len(entry.answer or b"")
