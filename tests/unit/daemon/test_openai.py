"""OpenAI's shapes: what is checked, what is refused, what is listed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kloros_infra.daemon import openai
from kloros_infra.ir.routing import RoutedPersona, RoutedPurpose
from tests.factories import a_routed_model, a_routing_table

CHAT = "/v1/chat/completions"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def places(path: str, body: dict[str, Any]) -> list[str]:
    return [problem.address for problem in openai.check(path, body)]


def test_unknown_fields_and_rich_messages_are_let_through() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "x", "name": "n"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "y"},
        ],
        "tools": [{"type": "function"}],
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "temperature": 1,
        "stop": ["a"],
        "max_tokens": None,
        "something_new": {"deep": [1]},
    }
    assert openai.check(CHAT, body) == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messages": "hi"}, ["messages"]),
        ({"messages": []}, ["messages"]),
        ({"messages": [{"content": "x"}, {"role": "user", "content": 1}]}, ["messages.0.role", "messages.1.content"]),
        ({"max_tokens": 1.5, "stream": "yes", "stop": [1]}, ["max_tokens", "stop.0", "stream"]),
        ({"temperature": "hot"}, ["temperature"]),
        ({"seed": 2**33}, ["seed"]),
        ({"metadata": "x"}, ["metadata"]),
    ],
)
def test_everything_wrong_is_said_with_its_place(fields: dict[str, Any], expected: list[str]) -> None:
    found = places(CHAT, {"messages": MESSAGES, **fields})
    for place in expected:
        assert any(place in address for address in found), found


def test_dangerous_fields_are_refused_with_the_reason() -> None:
    for name in openai.REFUSED_FIELDS:
        (problem,) = openai.check(CHAT, {"messages": MESSAGES, name: 1})
        assert (problem.code, problem.address) == ("KI839", name)


def test_pictures_are_never_fetched() -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]
    assert openai.check(CHAT, {"messages": [{"role": "user", "content": content}]})


def test_the_other_paths_have_their_own_required_field() -> None:
    assert openai.check("/v1/completions", {"prompt": "x"}) == openai.check("/v1/embeddings", {"input": ["x"]}) == ()
    assert places("/v1/completions", {}) == ["prompt"]
    assert places("/v1/embeddings", {}) == ["input"]


def test_the_purpose_comes_from_the_header_then_from_the_metadata() -> None:
    body = {"metadata": {"purpose": "code"}}
    assert openai.purpose_asked(body, b"fast") == "fast"
    assert openai.purpose_asked(body, b"") == "code"
    assert openai.purpose_asked({"metadata": {"purpose": 1}}, b"") is None
    assert openai.purpose_asked({"metadata": None}, b"") is None
    assert openai.model_asked({"model": ""}) is None


def test_errors_have_message_type_and_code() -> None:
    problems = openai.check(CHAT, {"messages": MESSAGES, "lora": []})
    error = json.loads(openai.error_body(400, problems))["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "KI839", "lora")
    assert json.loads(openai.error_body(502, problems))["error"]["type"] == "server_error"
    assert json.loads(openai.error_body(413, problems))["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"error": {"message": "no"}}, "no"), ({"error": "no"}, "no"), ({"error": {}}, "no message"), ({}, "no message")],
)
def test_the_words_of_an_error_are_found(body: dict[str, Any], expected: str) -> None:
    assert openai.error_message(body) == expected


def test_models_are_listed_under_every_name_and_the_default_first() -> None:
    small, large = a_routed_model("small"), a_routed_model("large", aliases=("large:7b",))
    purpose = RoutedPurpose(name="code", candidates=("large", "gone"), otherwise=None, is_default=True)
    persona = RoutedPersona(id="doctor", model_id="large", system_prompt="", sampling={}, stop=())
    table = a_routing_table(small, large, purposes=(purpose,), personas=(persona,))
    assert [entry["id"] for entry in openai.models_body(table)["data"]] == ["large", "large:7b", "small", "doctor"]
    entry = openai.model_entry(table, "large:7b")
    assert entry is not None
    assert entry["root"] == "large"
    assert openai.model_entry(table, "large:7b:latest") == entry
    assert openai.model_entry(table, "none") is None
