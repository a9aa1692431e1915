"""OpenAI's shapes: what is checked, what is refused, what is listed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kloros_infra.daemon import openai
from kloros_infra.ir.routing import RoutedPurpose
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, an_upstream

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


@pytest.mark.parametrize(
    ("error", "expected"), [({"code": 500}, 500), ({"code": "KI825"}, 200), ({"code": True}, 200), ("no", 200)]
)
def test_an_error_within_a_stream_has_its_own_status(error: object, expected: int) -> None:
    assert openai.error_status({"error": error}, 200) == expected


def test_models_are_listed_under_every_name_and_the_default_first() -> None:
    small, large = a_routed_model("small"), a_routed_model("large", aliases=("large:7b",))
    purpose = RoutedPurpose(name="code", candidates=("large", "gone"), otherwise=None, is_default=True)
    persona = a_routed_persona("doctor", model_id="large", aliases=("code-doctor",))
    table = a_routing_table(small, large, purposes=(purpose,), personas=(persona,))
    assert [entry["id"] for entry in openai.models_body(table, "cpu_only")["data"]] == [
        "large",
        "large:7b",
        "small",
        "doctor",
        "code-doctor",
    ]
    entry = openai.model_entry(table, "cpu_only", "large:7b")
    assert entry is not None
    assert entry["root"] == "large"
    assert openai.model_entry(table, "cpu_only", "large:7b:latest") == entry
    assert openai.model_entry(table, "cpu_only", "none") is None


def test_listings_give_the_context_of_the_active_profile() -> None:
    model = a_routed_model("code", an_upstream("code-max", context_tokens=512), context_tokens=1024)
    table = a_routing_table(model, profiles=("max", "mid"))

    def tokens(profile: str) -> int:
        entry = openai.model_entry(table, profile, "code")
        assert entry is not None
        return int(entry["context_tokens"])

    assert (tokens("max"), tokens("mid")) == (512, 1024)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Look.", False),
        (None, False),
        ([{"type": "text", "text": "Look."}], False),
        ([{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": "data:image/png;,"}}], True),
    ],
)
def test_pictures_are_seen(content: Any, expected: bool) -> None:
    assert openai.has_images({"messages": [{"role": "system"}, {"role": "user", "content": content}]}) is expected


@pytest.mark.parametrize(
    ("body", "is_good"),
    [
        ({"query": "q", "documents": ["a"]}, True),
        ({"query": "q", "texts": ["a"], "top_n": 1}, True),
        ({"query": "", "documents": ["a"]}, False),
        ({"query": "q", "documents": []}, False),
        ({"query": "q", "documents": [{"text": "a"}]}, False),
        ({"documents": ["a"]}, False),
        ({"query": "q", "documents": ["a"], "top_n": 0}, False),
    ],
)
def test_a_request_to_rank_is_checked(body: dict[str, Any], is_good: bool) -> None:
    assert all((openai.check(path, body) == ()) is is_good for path in ("/v1/rerank", "/rerank"))
