"""A persona fills in what the request leaves open, and its prompt comes first."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.ir.routing import RoutedPersona
from kloros_infra.router.persona import merge_persona

USER = {"role": "user", "content": "Why?"}


def a_routed_persona(
    prompt: str = "Cite lines.", sampling: dict[str, float | int] | None = None, stop: tuple[str, ...] = ()
) -> RoutedPersona:
    return RoutedPersona(id="p", model_id="m", system_prompt=prompt, sampling=sampling or {}, stop=stop)


def test_the_prompt_comes_first_and_the_body_is_left_alone() -> None:
    body = {"messages": [USER], "stream": True}
    merged = merge_persona(body, a_routed_persona())
    assert merged == {"messages": [{"role": "system", "content": "Cite lines."}, USER], "stream": True}
    assert body == {"messages": [USER], "stream": True}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_there_is_one_system_message(role: str) -> None:
    merged = merge_persona({"messages": [{"role": role, "content": "Be brief."}, USER]}, a_routed_persona())
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
    merged = merge_persona({"messages": [{"role": "system", "content": content}]}, a_routed_persona())
    assert merged["messages"][0]["content"] == joined


def test_no_messages_or_odd_ones_get_the_prompt_too() -> None:
    assert merge_persona({}, a_routed_persona())["messages"] == [{"role": "system", "content": "Cite lines."}]
    assert merge_persona({"messages": ["odd"]}, a_routed_persona())["messages"][1] == "odd"


def test_a_persona_without_a_prompt_adds_none() -> None:
    assert merge_persona({"messages": [USER]}, a_routed_persona(""))["messages"] == [USER]


def test_the_request_outranks_the_personas_sampling_and_null_is_left_open() -> None:
    persona = a_routed_persona(sampling={"temperature": 0.2, "top_p": 0.9, "top_k": 40})
    merged = merge_persona({"messages": [], "temperature": 0.8, "top_p": None}, persona)
    assert (merged["temperature"], merged["top_p"], merged["top_k"]) == (0.8, 0.9, 40)


def test_either_spelling_of_the_length_limit_outranks_the_personas() -> None:
    persona = a_routed_persona(sampling={"max_tokens": 100})
    assert "max_tokens" not in merge_persona({"messages": [], "max_completion_tokens": 5}, persona)
    assert merge_persona({"messages": [], "max_tokens": 5}, persona)["max_tokens"] == 5
    assert merge_persona({"messages": []}, persona)["max_tokens"] == 100


@pytest.mark.parametrize(
    ("asked", "merged"), [({}, ["a"]), ({"stop": "b"}, ["a", "b"]), ({"stop": ["b", "a"]}, ["a", "b"])]
)
def test_stops_are_joined(asked: dict[str, Any], merged: list[str]) -> None:
    assert merge_persona({"messages": [], **asked}, a_routed_persona(stop=("a",)))["stop"] == merged


def test_no_stop_stays_no_stop() -> None:
    assert "stop" not in merge_persona({"messages": []}, a_routed_persona())
