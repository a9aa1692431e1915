"""A persona fills in what the request leaves open, and its prompt comes first."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.ir.routing import RoutedPersona
from kloros_infra.router.persona import merge_persona
from tests.factories import a_routed_persona

USER = {"role": "user", "content": "Why?"}


TOOL = {"type": "function", "function": {"name": "read_file", "description": "", "parameters": {}}}
JSON_ANSWER = {"type": "json_object"}


def a_persona(
    prompt: str = "Cite lines.", sampling: dict[str, float | int] | None = None, stop: tuple[str, ...] = ()
) -> RoutedPersona:
    return a_routed_persona(system_prompt=prompt, sampling=sampling, stop=stop)


def test_the_prompt_comes_first_and_the_body_is_left_alone() -> None:
    body = {"messages": [USER], "stream": True}
    merged = merge_persona(body, a_persona())
    assert merged == {"messages": [{"role": "system", "content": "Cite lines."}, USER], "stream": True}
    assert body == {"messages": [USER], "stream": True}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_there_is_one_system_message(role: str) -> None:
    merged = merge_persona({"messages": [{"role": role, "content": "Be brief."}, USER]}, a_persona())
    assert merged["messages"] == [{"role": role, "content": "Cite lines.\n\nBe brief."}, USER]


@pytest.mark.parametrize(
    ("content", "joined"),
    [
        (
            [{"type": "text", "text": "Be brief."}],
            [{"type": "text", "text": "Cite lines."}, {"type": "text", "text": "Be brief."}],
        ),
        (None, "Cite lines."),
        ("", "Cite lines."),
    ],
)
def test_a_system_message_may_have_parts_or_nothing(content: Any, joined: Any) -> None:
    merged = merge_persona({"messages": [{"role": "system", "content": content}]}, a_persona())
    assert merged["messages"][0]["content"] == joined


def test_no_messages_or_odd_ones_get_the_prompt_too() -> None:
    assert merge_persona({}, a_persona())["messages"] == [{"role": "system", "content": "Cite lines."}]
    assert merge_persona({"messages": ["odd"]}, a_persona())["messages"][1] == "odd"


def test_a_persona_without_a_prompt_adds_none() -> None:
    assert merge_persona({"messages": [USER]}, a_persona(""))["messages"] == [USER]


def test_the_request_outranks_the_personas_sampling_and_null_is_left_open() -> None:
    persona = a_persona(sampling={"temperature": 0.2, "top_p": 0.9, "top_k": 40})
    merged = merge_persona({"messages": [], "temperature": 0.8, "top_p": None}, persona)
    assert (merged["temperature"], merged["top_p"], merged["top_k"]) == (0.8, 0.9, 40)


def test_either_spelling_of_the_length_limit_outranks_the_personas() -> None:
    persona = a_persona(sampling={"max_tokens": 100})
    assert "max_tokens" not in merge_persona({"messages": [], "max_completion_tokens": 5}, persona)
    assert merge_persona({"messages": [], "max_tokens": 5}, persona)["max_tokens"] == 5
    assert merge_persona({"messages": []}, persona)["max_tokens"] == 100


@pytest.mark.parametrize(
    ("asked", "merged"), [({}, ["a"]), ({"stop": "b"}, ["a", "b"]), ({"stop": ["b", "a"]}, ["a", "b"])]
)
def test_stops_are_joined(asked: dict[str, Any], merged: list[str]) -> None:
    assert merge_persona({"messages": [], **asked}, a_persona(stop=("a",)))["stop"] == merged


def test_no_stop_stays_no_stop() -> None:
    assert "stop" not in merge_persona({"messages": []}, a_persona())


@pytest.mark.parametrize("nothing", [{}, {"response_format": None, "tools": None}, {"tools": []}])
def test_form_and_tools_are_filled_in(nothing: dict[str, Any]) -> None:
    persona = a_routed_persona(response_format=JSON_ANSWER, tools=(TOOL,))
    merged = merge_persona({"messages": [USER], **nothing}, persona)
    assert (merged["response_format"], merged["tools"]) == (JSON_ANSWER, [TOOL])


@pytest.mark.parametrize(
    "own", [{"response_format": {"type": "text"}}, {"json_schema": {"type": "object"}}, {"grammar": "root ::= [a-z]"}]
)
def test_a_request_with_a_form_of_its_own_keeps_it(own: dict[str, Any]) -> None:
    merged = merge_persona({"messages": [USER], **own}, a_routed_persona(response_format=JSON_ANSWER))
    assert merged.get("response_format") == own.get("response_format")


def test_a_request_with_tools_of_its_own_keeps_them() -> None:
    merged = merge_persona({"messages": [USER], "tools": [{"type": "function"}]}, a_routed_persona(tools=(TOOL,)))
    assert merged["tools"] == [{"type": "function"}]


def test_a_persona_without_form_or_tools_adds_none() -> None:
    assert not merge_persona({"messages": [USER]}, a_persona()).keys() & {"response_format", "tools"}
