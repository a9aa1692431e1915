"""What was said of a broken answer, and the request that goes on from there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.continuing import Told
from tests.factories import a_routed_persona

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 10, "stream": True}


def event(**delta: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


def told(*pieces: bytes) -> Told:
    one = Told()
    for piece in pieces:
        one.whole_events(piece)
    return one


def test_the_request_goes_on_from_what_was_said() -> None:
    one = told(event(role="assistant", content=None), event(content="Once "), event(content="upon"))
    assert one.continued(CHAT, None, None) == {
        "messages": [*CHAT["messages"], {"role": "assistant", "content": "Once upon"}],
        "max_tokens": 8,
        "stream": True,
    }
    named = one.continued({**CHAT, "model": "small", "max_tokens": -1}, None, "qwen")
    assert named is not None
    assert (named["model"], named["max_tokens"]) == ("qwen", -1)


def test_nothing_said_is_asked_again_as_it_was() -> None:
    assert told().continued(CHAT, None, None) == CHAT


def test_a_limit_that_is_used_up_leaves_one_token() -> None:
    body = told(*(event(content="x") for _ in range(20))).continued(CHAT, None, None)
    assert body is not None
    assert body["max_tokens"] == 1


def test_a_prompt_is_lengthened() -> None:
    one = told(b'data: {"choices":[{"text":" a time"}]}\n\n')
    assert one.continued({"prompt": "Once upon"}, None, None) == {"prompt": "Once upon a time"}


def test_a_persona_is_merged_in_first() -> None:
    plain = a_routed_persona(system_prompt="Arr.", stop=())
    body = told(event(content="Aye")).continued(CHAT, plain, None)
    assert body is not None
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant"]
    formed = a_routed_persona(response_format={"type": "json_object"})
    assert told(event(content="Aye")).continued(CHAT, formed, None) is None


@pytest.mark.parametrize(
    ("piece", "more"),
    [
        (event(tool_calls=[{"index": 0}]), {}),
        (event(reasoning_content="hm"), {}),
        (b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n', {}),
        (b"data: {\n\n", {}),
        (event(content="x"), {"tools": [{"type": "function"}]}),
        (event(content="x"), {"response_format": {"type": "json_object"}}),
        (event(content="x"), {"n": 2}),
    ],
)
def test_what_is_more_than_text_cannot_be_taken_up(piece: bytes, more: dict[str, Any]) -> None:
    assert told(piece).continued({**CHAT, **more}, None, None) is None


@given(st.lists(st.text(max_size=5), max_size=8), st.data())
def test_only_whole_events_are_passed_on_however_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(event(content=text) for text in texts)
    end = data.draw(st.integers(0, len(stream)))
    one, passed, at = Told(), b"", 0
    while at < end:
        size = data.draw(st.integers(1, 40))
        passed += one.whole_events(stream[at : min(at + size, end)])
        at += size
    assert stream.startswith(passed)
    assert not passed or passed.endswith(b"\n\n")
    assert len(passed) > end - len(b"data: ") - 200
    one.begin_anew()
    body = one.continued({"messages": []}, None, None)
    said = "".join(texts[: passed.count(b"\n\n")])
    assert body == {"messages": [{"role": "assistant", "content": said}] if said else []}
