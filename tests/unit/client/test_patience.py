"""Whoever waits for an answer gives up by itself where the thread in the background is stuck."""

from __future__ import annotations

import time

import pytest

from kloros_infra.client import Addresses, Client, NoAnswerError, Stream
from kloros_infra.client.conversation import Conversation
from kloros_infra.client.question import Question
from kloros_infra.client.sync_client import GRACE_S, _Wait

TIMEOUT_S = 0.05 - GRACE_S
"""Over, with the time that the thread is given, in a moment."""


def test_a_wait_ends() -> None:
    wait = _Wait()
    question = Question("c-1", "{}", wait, now=time.monotonic(), timeout_s=TIMEOUT_S)
    with pytest.raises(NoAnswerError, match=r"tcp://127\.0\.0\.1:5555"):
        wait.wait(question, Conversation(Addresses()).late)


def test_an_answer_that_is_there_is_given_however_late_it_is_looked_for() -> None:
    wait = _Wait()
    question = Question("c-1", "{}", wait, now=time.monotonic() - 100, timeout_s=1)
    wait.on_reply({"success": True})
    assert wait.wait(question, Conversation(Addresses()).late) == {"success": True}


def test_a_stream_ends_after_what_has_come() -> None:
    stream = Stream(Client(), "c-1", timeout_s=TIMEOUT_S, late=Conversation(Addresses()).late)
    stream.on_delta("Hello ")
    pieces = iter(stream)
    assert next(pieces) == "Hello "
    with pytest.raises(NoAnswerError):
        next(pieces)
    assert list(stream) == []
