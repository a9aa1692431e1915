"""Ollama's requests in OpenAI's words, and what its clients may ask about models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kloros_infra.daemon import ollama, ollama_listing
from kloros_infra.daemon.ollama import OllamaChat, OllamaGenerate, OllamaShow
from kloros_infra.daemon.openai import check
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.routing import RoutedPersona
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, an_upstream


def generate(**fields: Any) -> dict[str, Any]:
    asked = ollama.read(OllamaGenerate, {"model": "m", "prompt": "hi", "stream": False, **fields})
    assert isinstance(asked, OllamaGenerate), asked
    return ollama.openai_body(asked)


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    asked = ollama.read(OllamaChat, {"model": "m", "messages": list(messages), "stream": False, **fields})
    assert isinstance(asked, OllamaChat), asked
    body = ollama.openai_body(asked)
    assert check("/v1/chat/completions", body) == ()
    return body


def test_a_prompt_becomes_a_chat_of_one_question() -> None:
    assert generate() == {"messages": [{"role": "user", "content": "hi"}]}
    assert generate(system="be kind")["messages"][0] == {"role": "system", "content": "be kind"}


def test_a_raw_prompt_stays_as_it_is() -> None:
    assert generate(raw=True, options={"seed": 1}) == {"prompt": "hi", "seed": 1}


def test_streaming_is_the_default() -> None:
    asked = ollama.read(OllamaGenerate, {"prompt": "hi"})
    assert isinstance(asked, OllamaGenerate)
    assert ollama.openai_body(asked)["stream"] is True
    assert ollama.openai_body(asked)["stream_options"] == {"include_usage": True}


def test_options_are_renamed_and_those_of_the_runner_ignored() -> None:
    options = {
        "temperature": 0.2, "top_p": 1, "top_k": 20.0, "min_p": 0.1, "repeat_penalty": 1.1, "num_predict": 64.0,
        "seed": 7, "stop": "END", "num_gpu": 999, "main_gpu": 0, "num_ctx": 16384, "num_thread": "x",
    }  # fmt: skip
    assert generate(options=options) == {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.2, "top_p": 1, "top_k": 20, "min_p": 0.1, "repeat_penalty": 1.1, "max_tokens": 64,
        "seed": 7, "stop": ("END",),
    }  # fmt: skip
    assert generate(options={"stop": ["a", "b"]})["stop"] == ("a", "b")


@pytest.mark.parametrize("unlimited", [-1, -2])
def test_no_limit_is_no_limit(unlimited: int) -> None:
    assert "max_tokens" not in generate(options={"num_predict": unlimited})


def test_format_and_thinking_are_translated() -> None:
    assert generate(format="json")["response_format"] == {"type": "json_object"}
    schema = {"type": "object"}
    assert generate(format=schema)["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in generate(format="")
    assert generate(think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert generate(think="high")["reasoning_effort"] == "high"


def test_pictures_become_parts() -> None:
    content = generate(images=["QUJD"])["messages"][0]["content"]
    assert content[1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}


def test_tool_calls_get_ids_and_results_refer_to_them() -> None:
    calls = [{"function": {"name": name, "arguments": {"city": name}}} for name in ("rain", "wind")]
    body = chat(
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls},
        {"role": "tool", "content": "windy", "tool_name": "wind"},
        {"role": "tool", "content": "dry"},
        {"role": "tool", "content": "nobody asked"},
        tools=[{"type": "function"}],
    )
    made = body["messages"][1]["tool_calls"]
    assert [(call["id"], call["function"]["name"]) for call in made] == [("call_0", "rain"), ("call_1", "wind")]
    assert json.loads(made[0]["function"]["arguments"]) == {"city": "rain"}
    assert body["messages"][1]["reasoning_content"] == "hm"
    assert [message.get("tool_call_id") for message in body["messages"][2:]] == ["call_1", "call_0", None]
    assert body["tools"] == [{"type": "function"}]


def test_wrong_fields_are_all_named() -> None:
    problems = ollama.read(OllamaGenerate, {"prompt": 1, "options": [], "suffix": "x", "stream": "no"})
    assert isinstance(problems, tuple)
    assert [problem.address for problem in problems] == ["options", "prompt", "stream", "suffix"]


def test_the_model_may_be_called_name() -> None:
    asked = ollama.read(OllamaShow, {"name": "m"})
    assert isinstance(asked, OllamaShow)
    assert asked.model_asked == "m"
    asked_chat = ollama.read(OllamaChat, {})
    assert isinstance(asked_chat, OllamaChat)
    assert asked_chat.model_asked is None
    assert not asked_chat.has_prompt


def test_tags_are_what_callers_compare_with() -> None:
    model = a_routed_model("qwen2.5-7b", name="qwen2.5", aliases=("qwen2.5:7b",)).model_copy(
        update={"version_id": "2025-11-17-01"}
    )
    persona = a_routed_persona("doctor", model_id="qwen2.5-7b", aliases=("dr:latest",))
    lost = a_routed_persona("lost", model_id="gone")
    tags = ollama_listing.tags_body(a_routing_table(model, personas=(persona, lost)))["models"]
    assert [tag["name"] for tag in tags] == ["qwen2.5", "qwen2.5-7b", "qwen2.5:7b", "doctor", "dr:latest"]
    assert tags[0]["modified_at"] == "2025-11-17T00:00:00Z"
    assert tags[0]["details"]["family"] == "qwen2"


def test_ps_lists_what_is_ready_in_this_profile() -> None:
    table = a_routing_table(a_routed_model("a"), a_routed_model("b"), a_routed_model("c", an_upstream("c-max")))
    listed = ollama_listing.ps_body(table, "cpu_only", {"b", "c"})["models"]
    assert [model["name"] for model in listed] == ["b"]


def shown_of(
    properties: dict[str, Any], kind: ModelKind = ModelKind.CHAT, persona: RoutedPersona | None = None
) -> dict[str, Any]:
    """Show a model under a profile that gives it 512 tokens of context."""
    model = a_routed_model("small", an_upstream(context_tokens=512), kind=kind)
    return ollama_listing.show_body(model, persona, properties, context_tokens=512)


def test_show_says_tools_where_the_chat_template_has_them() -> None:
    plain = shown_of({})
    assert ".Tools" not in plain["template"]
    assert plain["capabilities"] == ["completion"]
    properties = {
        "chat_template": "{{ x }}",
        "chat_template_caps": {"supports_tools": True},
        "modalities": {"vision": True},
    }
    shown = shown_of(properties)
    assert ".Tools" in shown["template"]
    assert shown["capabilities"] == ["completion", "tools", "vision"]
    assert shown["model_info"]["tokenizer.chat_template"] == "{{ x }}"
    assert shown["model_info"]["qwen2.context_length"] == 512
    for kind, capabilities in ((ModelKind.EMBEDDING, ["embedding"]), (ModelKind.RERANK, [])):
        assert shown_of(properties, kind)["capabilities"] == capabilities


def test_show_gives_a_personas_prompt_and_sampling() -> None:
    persona = a_routed_persona("d", system_prompt="Be brief.", sampling={"top_p": 0.9}, stop=("END",))
    shown = shown_of({}, persona=persona)
    assert (shown["system"], shown["parameters"]) == ("Be brief.", 'top_p 0.9\nstop "END"')
