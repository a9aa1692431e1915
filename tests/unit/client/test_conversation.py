"""How a client finds the router and loses nothing, message by message on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.conversation import NEVER, Conversation, Link, Out
from kloros_infra.client.errors import LlmError, NoAnswerError, RefusedError
from kloros_infra.client.question import Question

BOTH, BUS_ALONE = Addresses(), Addresses(direct=None)


class Heard:
    """Implements `Sink`; keeps what comes."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.replies: list[Mapping[str, Any]] = []
        self.errors: list[LlmError] = []

    def on_delta(self, text: str) -> None:
        self.pieces.append(text)

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        self.replies.append(facts)

    def on_error(self, error: LlmError) -> None:
        self.errors.append(error)


class Table:
    """A conversation and its clock; links that are down take no message."""

    def __init__(self, addresses: Addresses = BOTH) -> None:
        self.talk = Conversation(addresses)
        self.now = 100.0
        self.down: set[Link] = set()
        self.sent: list[tuple[float, Out]] = []

    def ask(self, timeout_s: float = 60.0) -> tuple[Question, Heard]:
        heard = Heard()
        question = Question(self.talk.new_id(), "{}", heard, now=self.now, timeout_s=timeout_s)
        self.talk.ask(question, self.now)
        self.step()
        return question, heard

    def step(self) -> None:
        for out in self.talk.step(self.now):
            if out.link in self.down:
                self.talk.unsent(out, self.now)
            else:
                self.sent.append((self.now, out))

    def run(self, seconds: float) -> None:
        """Let time pass, stepping when the conversation wants to."""
        end = self.now + seconds
        for _ in range(10_000):
            at = self.talk.next_at()
            if at > end:
                break
            self.now = max(self.now, at)
            self.step()
        else:
            raise AssertionError("it never rests")
        self.now = end

    def hear(self, link: Link, **facts: Any) -> None:
        self.talk.heard(link, facts, self.now)
        self.step()

    def topics(self, link: Link) -> list[str]:
        return [out.topic for _, out in self.sent if out.link is link]

    def times(self, topic: str, link: Link) -> list[float]:
        return [round(at - 100.0, 3) for at, out in self.sent if (out.topic, out.link) == (topic, link)]


def test_a_question_goes_to_the_direct_endpoint_at_once_and_nothing_else_is_said() -> None:
    table = Table()
    question, heard = table.ask()
    assert table.topics(Link.DIRECT) == ["llm.request"]
    table.hear(Link.DIRECT, request_id=question.request_id, success=True, response="Hi")
    assert heard.replies == [{"request_id": question.request_id, "success": True, "response": "Hi"}]
    table.run(100)
    assert table.topics(Link.DIRECT) == ["llm.request"]
    assert table.talk.next_at() == NEVER
    assert not table.talk.wants_bus


def test_a_long_silence_is_pinged_and_a_word_now_and_then_is_enough() -> None:
    table = Table()
    question, _ = table.ask()
    for _ in range(20):
        table.hear(Link.DIRECT, request_id=question.request_id, waiting=True, queue_position=3)
        table.run(0.4)
    assert "llm.ping" not in table.topics(Link.DIRECT)
    assert not table.talk.wants_bus
    table.run(0.3)
    assert "llm.ping" in table.topics(Link.DIRECT)


def test_where_nobody_answers_directly_the_bus_is_used_once_the_router_has_answered_there() -> None:
    table = Table()
    table.down = {Link.DIRECT}
    question, heard = table.ask()
    table.run(0.299)
    assert not table.talk.wants_bus
    table.run(0.1)
    assert table.talk.wants_bus
    assert set(table.topics(Link.BUS)) == {"llm.ping"}, "a subscription that is only believed loses answers"
    table.hear(Link.BUS, request_id=f"{table.talk.client_id}-ping-1", pong=True, router="r")
    assert table.topics(Link.BUS)[-1] == "llm.request"
    table.hear(Link.BUS, request_id=question.request_id, success=True)
    assert heard.replies


def test_on_the_bus_the_same_question_is_sent_ever_less_often() -> None:
    table = Table(BUS_ALONE)
    table.ask()
    table.hear(Link.BUS, pong=True, router="r")
    table.run(10)
    assert table.times("llm.request", Link.BUS) == [0, 0.05, 0.15, 0.35, 0.75, 1.55, 3.15, 5.15, 7.15, 9.15]
    assert len({out.request_id for _, out in table.sent if out.topic == "llm.request"}) == 1


def test_a_direct_endpoint_that_falls_silent_is_left_for_the_bus_and_taken_again() -> None:
    table = Table()
    question, heard = table.ask()
    table.hear(Link.DIRECT, request_id=question.request_id, waiting=True)
    table.run(1.6)
    assert table.talk.wants_bus
    table.hear(Link.BUS, pong=True, router="r")
    assert table.topics(Link.BUS)[-1] == "llm.request"
    table.hear(Link.DIRECT, pong=True, router="r")
    assert table.topics(Link.DIRECT)[-1] == "llm.request"
    table.hear(Link.BUS, request_id=question.request_id, success=True)
    table.hear(Link.DIRECT, request_id=question.request_id, success=True)
    assert len(heard.replies) == 1


def test_another_router_is_asked_everything_again() -> None:
    table = Table()
    table.ask()
    table.hear(Link.DIRECT, pong=True, router="first")
    sent = table.topics(Link.DIRECT).count("llm.request")
    table.hear(Link.DIRECT, pong=True, router="first")
    assert table.topics(Link.DIRECT).count("llm.request") == sent
    table.hear(Link.DIRECT, pong=True, router="second")
    assert table.topics(Link.DIRECT).count("llm.request") == sent + 1


@pytest.mark.parametrize("has_heard", [True, False])
def test_a_time_that_is_over_is_told_and_the_router_too(has_heard: bool) -> None:
    table = Table()
    question, heard = table.ask(timeout_s=1.0)
    if has_heard:
        table.hear(Link.DIRECT, request_id=question.request_id, waiting=True)
    table.run(1.0)
    (error,) = heard.errors
    assert isinstance(error, NoAnswerError)
    assert error.code == ("KI850" if has_heard else "KI851")
    assert any(out.topic == "llm.cancel" for _, out in table.sent)


def test_closing_ends_all_that_wait() -> None:
    table = Table()
    _, heard = table.ask()
    _, other = table.ask()
    table.talk.close()
    table.step()
    assert [error.code for error in heard.errors + other.errors] == ["KI852", "KI852"]
    assert table.topics(Link.DIRECT)[-2:] == ["llm.cancel", "llm.cancel"]


def test_many_questions_are_sent_once_each_and_watched_together() -> None:
    table = Table()
    asked = [table.ask() for _ in range(500)]
    assert table.topics(Link.DIRECT).count("llm.request") == 500
    for question, _ in asked:
        table.hear(Link.DIRECT, request_id=question.request_id, success=True)
    assert all(len(heard.replies) == 1 for _, heard in asked)


# Answers in pieces.


def a_stream() -> tuple[Table, str, Heard]:
    table = Table()
    question, heard = table.ask()
    return table, question.request_id, heard


def chunk(table: Table, id: str, seq: int, delta: str, router: str = "r") -> None:
    table.hear(Link.DIRECT, request_id=id, seq=seq, delta=delta, done=False, router=router)


def test_pieces_are_passed_on_in_order_and_doubles_are_not() -> None:
    table, id, heard = a_stream()
    for seq, delta in ((0, "a"), (0, "a"), (1, "b"), (0, "a"), (2, "c")):
        chunk(table, id, seq, delta)
    table.hear(Link.DIRECT, request_id=id, success=True, response="abc", done=True, seq=3)
    assert heard.pieces == ["a", "b", "c"]
    assert len(heard.replies) == 1


def test_after_a_lost_piece_the_rest_comes_with_the_whole() -> None:
    table, id, heard = a_stream()
    chunk(table, id, 0, "a")
    chunk(table, id, 2, "c")
    chunk(table, id, 3, "d")
    assert heard.pieces == ["a"]
    table.hear(Link.DIRECT, request_id=id, success=True, response="abcd", done=True, seq=4)
    assert heard.pieces == ["a", "bcd"]
    assert len(heard.replies) == 1


def test_a_whole_answer_without_pieces_is_one_piece() -> None:
    table, id, heard = a_stream()
    table.hear(Link.DIRECT, request_id=id, success=True, response="abc", done=True, seq=3)
    assert heard.pieces == ["abc"]


def test_what_a_broken_stream_had_said_is_passed_on_before_the_refusal() -> None:
    table, id, heard = a_stream()
    chunk(table, id, 0, "a")
    chunk(table, id, 2, "c")
    table.hear(Link.DIRECT, request_id=id, success=False, response="", metadata={"partial": "abc"}, done=True, seq=3)
    assert heard.pieces == ["a", "bc"]
    assert heard.replies[0]["success"] is False


def test_pieces_of_two_routers_are_not_mixed() -> None:
    table, id, heard = a_stream()
    chunk(table, id, 0, "a", "first")
    chunk(table, id, 0, "x", "second")
    chunk(table, id, 1, "y", "second")
    table.hear(Link.DIRECT, request_id=id, success=True, response="xy", done=True, seq=2)
    assert heard.pieces == ["a"]
    ((error),) = heard.errors
    assert (error.code, error.partial) == ("KI854", "a")
    assert isinstance(error, RefusedError)


def test_what_another_router_says_goes_on_where_it_begins_the_same() -> None:
    table, id, heard = a_stream()
    chunk(table, id, 0, "a", "first")
    chunk(table, id, 0, "a", "second")
    table.hear(Link.DIRECT, request_id=id, success=True, response="ab", done=True, seq=2)
    assert heard.pieces == ["a", "b"]
    assert heard.errors == []


@pytest.mark.parametrize("facts", [{"seq": "x", "delta": "a"}, {"seq": 0, "delta": 5}, {"seq": 0}, {}])
def test_pieces_that_are_none_are_passed_over(facts: dict[str, Any]) -> None:
    table, id, heard = a_stream()
    table.hear(Link.DIRECT, request_id=id, done=False, **facts)
    table.hear(Link.DIRECT, request_id=id, success=True, response="abc", done=True, seq=3)
    assert heard.pieces == ["abc"]
