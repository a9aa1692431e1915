"""Ollama's answers, from what a real llama-server sent (recorded/)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.ollama_answers import AnswerShape, LineStream, loaded_answer, rfc3339, whole_answer

RECORDED = Path(__file__).parent / "recorded"
START, NOW = 1_763_000_000.0, 1_763_000_001.5
CHAT = AnswerShape("m", is_chat=True, started_at=START)
GENERATE = AnswerShape("m", is_chat=False, started_at=START)


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def lines_of(data: bytes, shape: AnswerShape = CHAT) -> list[dict[str, Any]]:
    out = LineStream(shape).feed(data, now=NOW)
    assert not out or out.endswith(b"\n")
    return [json.loads(line) for line in out.splitlines()]


def event(**delta: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()


def test_a_recorded_chat_becomes_lines_with_figures() -> None:
    *parts, last = lines_of(recorded("chat.sse"))
    assert "".join(part["message"]["content"] for part in parts).startswith("I'm glad")
    assert all(part["done"] is False and part["model"] == "m" for part in parts)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "length", "")
    assert (last["eval_count"], last["total_duration"]) == (4, 1_500_000_000)
    assert last["prompt_eval_count"] > 0
    assert last["eval_duration"] > 1_000_000, "nanoseconds"


def test_a_recorded_completion_becomes_responses() -> None:
    *parts, last = lines_of(recorded("completion.sse"), GENERATE)
    assert "".join(part["response"] for part in parts) == " a canvas of"
    assert (last["response"], last["eval_count"]) == ("", 3)


def test_recorded_tool_calls_come_whole_with_arguments_as_an_object() -> None:
    call, last = lines_of(recorded("chat_tools.sse"))
    assert call["message"]["tool_calls"] == [{"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}]
    assert last["done_reason"] == "stop"


@given(st.lists(st.integers(0, 3000), max_size=10))
def test_lines_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    data = recorded("chat_tools.sse")
    edges = [0, *sorted(cuts), len(data)]
    stream = LineStream(CHAT)
    parts = [stream.feed(data[start:end], now=NOW) for start, end in pairwise(edges)]
    assert b"".join(parts) == LineStream(CHAT).feed(data, now=NOW)


def test_lines_are_compact() -> None:
    assert b'"model":"m"' in LineStream(CHAT).feed(recorded("chat.sse"), now=NOW)


def test_thinking_is_separate() -> None:
    thought, said = lines_of(event(reasoning_content="hm") + event(content="yes"))
    assert thought["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert said["message"] == {"role": "assistant", "content": "yes"}
    (line,) = lines_of(event(reasoning_content="hm"), GENERATE)
    assert (line["response"], line["thinking"]) == ("", "hm")


def test_arguments_cut_off_are_not_lost() -> None:
    part = event(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": '{"city": "Ro'}}])
    text, _ = lines_of(part + b"data: [DONE]\n\n")
    assert text["message"]["content"] == '{"city": "Ro'


def test_comments_and_other_line_ends_are_read() -> None:
    data = b": ping\r\n" + event(content="a").replace(b"\n", b"\r\n") + b"id: 1\n\n"
    assert [line["message"]["content"] for line in lines_of(data)] == ["a"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [(b'data: {"error":{"message":"boom"}}\n\n', "KI825"), (b"data: {oops}\n\n", "KI824")],
)
def test_an_error_is_the_last_line(bad: bytes, code: str) -> None:
    stream = LineStream(CHAT)
    *_, last = stream.feed(event(content="a") + bad + event(content="b"), now=NOW).splitlines()
    assert json.loads(last)["code"] == code
    assert stream.is_closed
    assert stream.fail("again", "KI823") == b""


def test_recorded_whole_answers() -> None:
    answer = json.loads(whole_answer(json.loads(recorded("chat.json")), CHAT, now=NOW))
    assert answer["message"] == {"role": "assistant", "content": "I'm glad you're here"}
    assert (answer["done"], answer["eval_count"]) == (True, 6)
    answer = json.loads(whole_answer(json.loads(recorded("chat_tools.json")), CHAT, now=NOW))
    assert answer["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
    answer = json.loads(whole_answer(json.loads(recorded("completion.json")), GENERATE, now=NOW))
    assert answer["response"] == " a canvas of"
    answer = json.loads(whole_answer({}, GENERATE, now=NOW))
    assert (answer["response"], answer["done_reason"]) == ("", "stop")
    assert "eval_count" not in answer


def test_loading_is_answered_at_once() -> None:
    assert json.loads(loaded_answer(GENERATE, now=NOW))["done_reason"] == "load"


def test_times_are_written_as_ollama_does() -> None:
    assert rfc3339(0.5) == "1970-01-01T00:00:00.500000Z"
