"""How a client and the router find each other and lose nothing. No I/O and no clock: messages and `now` come in.

The direct endpoint is preferred: it loses nothing while the connection lasts. Where nobody answers there the bus is
joined, and used once the router itself has answered a ping: a subscription that is only believed to be known loses
answers that come at once. On either, a question is sent again under the same id until it is answered, for the router
answers each id once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.errors import LlmError, NoAnswerError, closed, no_answer
from kloros_infra.client.messages import CANCEL_TOPIC, PING_TOPIC, REQUEST_TOPIC, RESPONSE_PREFIX
from kloros_infra.client.question import Question

NEVER = float("inf")
FALLBACK_S = 0.3
"""So long the direct endpoint may take to say its first word before the bus is joined."""
BEAT_S = 0.5
"""After so much silence while something is asked the router is pinged."""
DEAD_S = 1.5
"""After so much silence, pings and all, the direct endpoint is taken to be gone."""
FIRST_PAUSE_S = {"direct": 0.005, "bus": 0.025}
LONGEST_PING_S = 0.25
BUS_RESEND_S, LONGEST_RESEND_S = 0.05, 2.0


class Link(Enum):
    """A way to the router."""

    DIRECT = "direct"
    BUS = "bus"


class State(Enum):
    """What is known of a link."""

    UNUSED = "unused"
    TRYING = "trying"
    """Nobody has answered on it yet."""
    UP = "up"
    DOWN = "down"
    """Nobody answers; it is still tried now and then."""


class Out(NamedTuple):
    """A message to send; where it cannot be sent, `Conversation.unsent` is told."""

    link: Link
    topic: str
    request_id: str
    facts: str
    question: Question | None = None


class _Way:
    """One link, and how it answers."""

    __slots__ = ("heard_at", "link", "pause_s", "ping_at", "router", "since", "state")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.state = State.UNUSED
        self.since = self.heard_at = 0.0
        self.ping_at = NEVER
        self.pause_s = FIRST_PAUSE_S[link.value]
        self.router: object = None

    def turn(self, state: State, now: float) -> None:
        self.state, self.since = state, now
        self.pause_s = FIRST_PAUSE_S[self.link.value]
        self.ping_at = now if state is not State.UP else now + BEAT_S

    @property
    def due_at(self) -> float:
        """Say when to ping; a way that has just been heard of needs none."""
        return max(self.ping_at, self.heard_at + BEAT_S) if self.state is State.UP else self.ping_at

    def ping_again(self, now: float) -> None:
        self.ping_at = now + (BEAT_S if self.state is State.UP else self.pause_s)
        self.pause_s = min(self.pause_s * 2, LONGEST_PING_S)


class Conversation:
    """All questions of a client; `step` says what is to be sent now, `next_at` when to step again."""

    def __init__(self, addresses: Addresses) -> None:
        self.client_id = secrets.token_hex(6)
        self._addresses = addresses
        self._asked = self._pinged = 0
        self._questions: dict[str, Question] = {}
        self._direct, self._bus = _Way(Link.DIRECT), _Way(Link.BUS)
        self._words: list[Out] = []
        self._new: list[Question] = []
        self._sweep_at = 0.0

    @property
    def prefix(self) -> str:
        """Give what the client subscribes to: one prefix for all answers, for ids are of one length."""
        return f"{RESPONSE_PREFIX}{self.client_id}-"

    @property
    def wants_bus(self) -> bool:
        """Say whether the bus has to be joined."""
        return self._bus.state is not State.UNUSED

    def new_id(self) -> str:
        """Give an id for a question."""
        self._asked += 1
        return f"{self.client_id}-{self._asked:08d}"

    def ask(self, question: Question, now: float) -> None:
        """Take a question in; `step` sends it."""
        if not self._questions:
            # Silence counts from when something is asked.
            for way in (self._direct, self._bus):
                way.heard_at = now
                way.since = now if way.state is State.TRYING else way.since
            self._sweep_at = now
        self._questions[question.request_id] = question
        self._new.append(question)

    def cancel(self, request_id: str) -> None:
        """Tell the router that an answer is wanted no more, and forget the question."""
        question = self._questions.pop(request_id, None)
        if question is not None and isinstance(question.link, Link):
            self._words.append(Out(question.link, CANCEL_TOPIC, request_id, _only(request_id)))

    def close(self, why: Callable[[], LlmError] = closed) -> None:
        """End all questions, and tell those who asked why."""
        for request_id, question in tuple(self._questions.items()):
            self.cancel(request_id)
            question.sink.on_error(why())

    def late(self, timeout_s: float, *, partial: str = "") -> NoAnswerError:
        """Say that a question was not answered in time."""
        has_heard = State.UP in {self._direct.state, self._bus.state}
        return no_answer(self._addresses.where, timeout_s, has_heard=has_heard, partial=partial)

    def heard(self, link: Link, facts: Mapping[str, Any], now: float) -> None:
        """Take a message in."""
        way = self._direct if link is Link.DIRECT else self._bus
        way.heard_at = now
        if way.state is not State.UP:
            way.turn(State.UP, now)
            self._sweep_at = now
        request_id = facts.get("request_id")
        if facts.get("pong"):
            self._pong(way, facts.get("router"), now)
            return
        question = self._questions.get(request_id) if isinstance(request_id, str) else None
        if question is None or facts.get("waiting"):
            return
        if facts.get("done") is False:
            question.take_chunk(facts)
            question.send_at = max(question.send_at, now + LONGEST_RESEND_S)
            return
        del self._questions[question.request_id]
        question.take_reply(facts)

    def unsent(self, out: Out, now: float) -> None:
        """Note that a message could not be sent: nobody is connected."""
        way = self._direct if out.link is Link.DIRECT else self._bus
        if way.state is State.UP:
            way.turn(State.TRYING, now)
        if out.question is not None:
            out.question.link = None
            out.question.send_at = now + way.pause_s
            self._sweep_at = min(self._sweep_at, out.question.send_at)

    def step(self, now: float) -> list[Out]:
        """Say what is to be sent now."""
        words, self._words = self._words, []
        if self._questions and self._sweep_at <= now:
            self._sweep(now, words)
        elif self._new:
            self._send_new(now, words)
        self._new.clear()
        return words

    def next_at(self) -> float:
        """Say when to step again if nothing happens."""
        if self._words or self._new:
            return 0.0
        return self._sweep_at if self._questions else NEVER

    # Own steps.

    def _send_new(self, now: float, words: list[Out]) -> None:
        """Send what was just asked; with many questions open, looking at all of them each time would not do."""
        link = self._link()
        for question in self._new:
            if link is not None:
                words.append(self._send(question, link, now))
                self._sweep_at = min(self._sweep_at, question.send_at)
            self._sweep_at = min(self._sweep_at, question.deadline)

    def _sweep(self, now: float, words: list[Out]) -> None:
        """Look at both ways and at every question."""
        self._expire(now)
        words.extend(self._words)
        self._words.clear()
        if not self._questions:
            return
        self._look_at_direct(now)
        self._look_at_bus(now)
        ways = [way for way in (self._direct, self._bus) if way.state is not State.UNUSED]
        words.extend(self._ping(way, now) for way in ways if way.due_at <= now)
        link, questions = self._link(), self._questions.values()
        if link is not None:
            words.extend(self._send(question, link, now) for question in questions if _is_due(question, link, now))
        dues = [way.due_at for way in ways]
        dues += [question.deadline for question in questions]
        if link is not None:
            dues += [question.send_at for question in questions]
        if self._direct.state is State.TRYING:
            dues.append(self._direct.since + FALLBACK_S)
        self._sweep_at = min(dues)

    def _expire(self, now: float) -> None:
        for request_id, question in tuple(self._questions.items()):
            if question.deadline <= now:
                self.cancel(request_id)
                question.sink.on_error(self.late(question.timeout_s, partial=question.said))

    def _look_at_direct(self, now: float) -> None:
        way = self._direct
        if self._addresses.direct is None:
            return
        if way.state is State.UNUSED:
            way.turn(State.TRYING, now)
            way.ping_at = now + way.pause_s  # the question itself goes first
        is_silent = way.state is State.TRYING and way.since + FALLBACK_S <= now
        is_dead = way.state is State.UP and way.heard_at + DEAD_S <= now
        if is_silent or is_dead:
            way.turn(State.DOWN, now)

    def _look_at_bus(self, now: float) -> None:
        way = self._bus
        if way.state is State.UNUSED and (self._addresses.direct is None or self._direct.state is State.DOWN):
            way.turn(State.TRYING, now)

    def _link(self) -> Link | None:
        """Choose the way for what is asked now; on the direct one there need not have been an answer before."""
        if self._direct.state in {State.UP, State.TRYING}:
            return Link.DIRECT
        return Link.BUS if self._bus.state is State.UP else None

    def _send(self, question: Question, link: Link, now: float) -> Out:
        is_again = question.link is link
        question.link = link
        if link is Link.DIRECT:
            question.pause_s = LONGEST_RESEND_S
        else:
            question.pause_s = min(question.pause_s * 2, LONGEST_RESEND_S) if is_again else BUS_RESEND_S
        question.send_at = now + question.pause_s
        return Out(link, REQUEST_TOPIC, question.request_id, question.facts, question)

    def _ping(self, way: _Way, now: float) -> Out:
        self._pinged += 1
        way.ping_again(now)
        request_id = f"{self.client_id}-ping-{self._pinged:08d}"
        return Out(way.link, PING_TOPIC, request_id, _only(request_id))

    def _pong(self, way: _Way, router: object, now: float) -> None:
        """Ask everything again where another router answers than before."""
        if way.router is not None and way.router != router:
            for question in self._questions.values():
                question.send_at = now
            self._sweep_at = now
        way.router = router


def _only(request_id: str) -> str:
    return f'{{"request_id":"{request_id}"}}'


def _is_due(question: Question, link: Link, now: float) -> bool:
    return question.send_at <= now or question.link not in {None, link}
