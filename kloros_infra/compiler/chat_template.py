"""Chat templates: which family of llama.cpp's a jinja text is of.

llama.cpp knows families by pieces of text that only their templates have (src/llama-chat.cpp,
llm_chat_detect_template); the table lists the same pieces in the same order, and names families as `--chat-template`
does. A personal template can so be told from one that contradicts its model without keeping either in the lock.
"""

from __future__ import annotations

Rule = tuple[str | None, tuple[str, ...]]

_INST = "[INST]"
_CHATML = "<|im_start|>"
_EXAONE = ("[|system|]", "[|assistant|]", "[|endofturn|]")
_BAILING = "<role>ASSISTANT</role>"
_GRANITE = "<|start_of_role|>"
_DEEPSEEK_3 = ("<\uff5cAssistant\uff5c>", "<\uff5cUser\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
_HUNYUAN = "<\uff5chy_Assistant\uff5c>"
_GIGACHAT = "message['role'] + additional_special_tokens[0] + message['content'] + additional_special_tokens[1]"

_RULES: tuple[Rule, ...] = (
    ("phi4", (_CHATML, "<|im_sep|>")),
    ("smolvlm", (_CHATML, "<end_of_utterance>")),
    ("chatml", (_CHATML,)),
    ("mistral-v7", (_INST, "[SYSTEM_PROMPT]")),
    ("mistral-v1", (_INST, "' [INST] ' + system_message")),
    ("mistral-v1", ("[AVAILABLE_TOOLS]", " [INST]")),
    ("mistral-v3-tekken", ("[AVAILABLE_TOOLS]", '"[INST]"')),
    ("mistral-v3", ("[AVAILABLE_TOOLS]", _INST)),
    ("llama2-sys-strip", (_INST, "content.strip()")),
    ("llama2-sys-bos", (_INST, "bos_token + '[INST]")),
    ("llama2-sys", (_INST, "<<SYS>>")),
    ("llama2", (_INST,)),
    ("phi3", ("<|assistant|>", "<|end|>")),
    ("chatglm4", ("[gMASK]<sop>",)),
    ("exaone-moe", ("<|assistant|>", "<|user|>", "<|tool_declare|>")),
    ("falcon3", ("<|assistant|>", "<|user|>", "</s>")),
    ("glmedge", ("<|assistant|>", "<|user|>")),
    ("glmedge", ("<|{{ item['role'] }}|>", "<|begin_of_image|>")),
    ("zephyr", ("<|user|>", "<|endoftext|>")),
    ("monarch", ("bos_token + message['role']",)),
    ("gemma", ("<start_of_turn>",)),
    ("orion", (r"'\n\nAssistant: ' + eos_token",)),
    ("openchat", ("GPT4 Correct ",)),
    ("vicuna-orca", ("USER: ", "ASSISTANT: ", "SYSTEM: ")),
    ("vicuna", ("USER: ", "ASSISTANT: ")),
    ("deepseek", ("### Instruction:", "<|EOT|>")),
    ("command-r", ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>")),
    ("llama3", ("<|start_header_id|>", "<|end_header_id|>")),
    ("chatglm3", ("[gMASK]sop",)),
    ("minicpm", ("<\u7528\u6237>",)),
    ("deepseek2", ("'Assistant: ' + message['content'] + eos_token",)),
    ("deepseek3", _DEEPSEEK_3),
    ("exaone4", (*_EXAONE, "[|tool|]")),
    ("exaone3", _EXAONE),
    ("rwkv-world", ("rwkv-world",)),
    ("rwkv-world", (r"{{- 'User: ' + message['content']|trim + '\n\n' -}}",)),
    ("granite-4.0", (_GRANITE, "<tool_call>", "g4_default_system_message")),
    ("granite-4.0", (_GRANITE, "<tools>", "g4_default_system_message")),
    ("granite-4.1", (_GRANITE, "<tool_call>")),
    ("granite-4.1", (_GRANITE, "<tools>")),
    ("granite", (_GRANITE,)),
    ("gigachat", (_GIGACHAT,)),
    ("megrez", ("<|role_start|>",)),
    ("yandex", (" \u0410\u0441\u0441\u0438\u0441\u0442\u0435\u043d\u0442:",)),
    ("bailing", (_BAILING, "'HUMAN'")),
    ("bailing-think", (_BAILING, '"HUMAN"', "<think>")),
    ("bailing2", (_BAILING, "<role>HUMAN</role>", "<|role_end|>")),
    ("llama4", ("<|header_start|>", "<|header_end|>")),
    # dots1: llama.cpp tells it from the others but has no name for it.
    (None, ("<|endofuserprompt|>",)),
    ("hunyuan-moe", ("<|extra_0|>", "<|extra_4|>")),
    ("gpt-oss", ("<|start|>", "<|channel|>")),
    ("hunyuan-vl", (_HUNYUAN, "<\uff5chy_begin\u2581of\u2581sentence\uff5c>")),
    ("hunyuan-dense", (_HUNYUAN, "<\uff5chy_place\u2581holder\u2581no\u25813\uff5c>")),
    ("kimi-k2", ("<|im_assistant|>assistant<|im_middle|>",)),
    ("seed_oss", ("<seed:bos>",)),
    ("grok-2", ("'Assistant: '  + message['content'] + '<|separator|>",)),
    ("pangu-embedded", ("[unused9]\u7cfb\u7edf\uff1a[unused10]",)),
    ("solar-open", ("<|begin|>", "<|end|>", "<|content|>")),
)


def chat_template_family(text: str) -> str | None:
    """Name the family of a chat template's text; None where llama.cpp has no name for it."""
    return next((name for name, pieces in _RULES if all(piece in text for piece in pieces)), None)
