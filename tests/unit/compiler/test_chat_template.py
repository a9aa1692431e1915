"""Families of chat templates, told as llama.cpp tells them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.chat_template import chat_template_family

# What templates of real models look like, shortened to what matters.
TEMPLATES = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}",
    "phi4": "<|im_start|>user<|im_sep|>{{ m.content }}<|im_end|>",
    "smolvlm": "<|im_start|>{{ m.role }}: {{ m.content }}<end_of_utterance>",
    "mistral-v1": "{{ bos_token }}{{ ' [INST] ' + system_message }}",
    "mistral-v3": "[AVAILABLE_TOOLS] {{ tools }}[INST]{{ m.content }}[/INST]",
    "mistral-v3-tekken": '[AVAILABLE_TOOLS]{{ tools }}{{ "[INST]" + m.content }}',
    "mistral-v7": "[SYSTEM_PROMPT]{{ system }}[/SYSTEM_PROMPT][INST]{{ m.content }}[/INST]",
    "llama2": "[INST] {{ m.content }} [/INST]",
    "llama2-sys": "[INST] <<SYS>>\n{{ system }}<</SYS>>\n{{ m.content }} [/INST]",
    "llama2-sys-bos": "{{ bos_token + '[INST] <<SYS>>' }}",
    "llama2-sys-strip": "[INST] <<SYS>>{{ content.strip() }}",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\n{{ m.content }}<|eot_id|>",
    "llama4": "<|header_start|>user<|header_end|>\n\n{{ m.content }}<|eot|>",
    "gemma": "<start_of_turn>user\n{{ m.content }}<end_of_turn>",
    "phi3": "<|user|>\n{{ m.content }}<|end|>\n<|assistant|>",
    "zephyr": "<|user|>\n{{ m.content }}<|endoftext|>",
    "falcon3": "<|user|>\n{{ m.content }}\n<|assistant|></s>",
    "vicuna": "USER: {{ m.content }} ASSISTANT: ",
    "vicuna-orca": "SYSTEM: {{ system }} USER: {{ m.content }} ASSISTANT: ",
    "deepseek": "### Instruction:\n{{ m.content }}\n### Response:\n<|EOT|>",
    "deepseek2": "{{ 'Assistant: ' + message['content'] + eos_token }}",
    "deepseek3": "<\uff5cUser\uff5c>{{ m }}<\uff5cAssistant\uff5c>{{ a }}<\uff5cend\u2581of\u2581sentence\uff5c>",
    "command-r": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ m.content }}<|END_OF_TURN_TOKEN|>",
    "granite": "<|start_of_role|>user<|end_of_role|>{{ m.content }}",
    "granite-4.0": "<|start_of_role|>user<tools>{{ g4_default_system_message }}",
    "gpt-oss": "<|start|>user<|channel|>final<|message|>",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_of_its_family(name: str) -> None:
    assert chat_template_family(TEMPLATES[name]) == name


@pytest.mark.parametrize("text", ["", "{{ messages }}", "<|endofuserprompt|><|start|><|channel|>"])
def test_what_llama_cpp_has_no_name_for_has_none_here(text: str) -> None:
    assert chat_template_family(text) is None


@given(st.text())
def test_any_text_is_of_one_family_or_none(text: str) -> None:
    assert chat_template_family(text) is None or "<" in text or "[" in text or ":" in text
