"""Estimate how many tokens a request's prompt has; exact counts are llama-server's, which knows the vocabulary.

English prose takes about 4.2 bytes a token with today's vocabularies, source code and most other languages 3 to 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil
from typing import Any

BYTES_PER_TOKEN = 3.5
"""Few texts have more tokens than this says."""
MOST_BYTES_PER_TOKEN = 16.0
"""No text has fewer tokens than this says, but for long runs of blanks."""
TOKENS_PER_TURN = 4
"""What a chat template puts around each turn."""
TOKENS_PER_IMAGE = 1024
"""What llama.cpp's projectors make of one picture at most, as a rule; its bytes say nothing."""

# Where OpenAI's and Ollama's bodies carry what the model reads.
TEXT_KEYS = frozenset({"prompt", "input", "query", "documents", "system", "suffix"})
STRUCTURE_KEYS = frozenset({"tools", "response_format", "json_schema"})


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """Estimate a request's tokens rather high, pictures included."""
    size, extra = 0, 0
    for key, value in body.items():
        if key == "messages":
            turns_size, turns_extra = _turns(value)
            size, extra = size + turns_size, extra + turns_extra
        elif key in TEXT_KEYS:
            text_size, images = _measured(value)
            size, extra = size + text_size, extra + TOKENS_PER_IMAGE * images
        elif key in STRUCTURE_KEYS:
            size += _written(value)
        elif key == "images":
            extra += TOKENS_PER_IMAGE * _count(value)
    return ceil(size / BYTES_PER_TOKEN) + extra


def tokens_of_bytes(size_bytes: int) -> int:
    """Estimate the tokens of so many bytes of text, rather high."""
    return ceil(size_bytes / BYTES_PER_TOKEN)


def likely_fits(tokens: int, context_tokens: int) -> bool:
    """Say whether an estimated prompt fits, with room for at least one token of an answer."""
    return tokens < context_tokens


def cannot_fit(tokens: int, context_tokens: int) -> bool:
    """Say whether an estimated prompt is too long in any vocabulary, so that asking is of no use."""
    return tokens * BYTES_PER_TOKEN / MOST_BYTES_PER_TOKEN >= context_tokens


def _turns(messages: Any) -> tuple[int, int]:
    """Give the bytes of all turns, and the tokens that come on top: of the template and of pictures."""
    size, extra = 0, 0
    for message in messages if isinstance(messages, list | tuple) else ():
        if isinstance(message, Mapping):
            text_size, images = _measured(message.get("content"))
            size += text_size + _written(message.get("tool_calls"))
            # Ollama puts pictures beside the text.
            extra += TOKENS_PER_TURN + TOKENS_PER_IMAGE * (images + _count(message.get("images")))
    return size, extra


def _measured(content: Any) -> tuple[int, int]:
    """Give the bytes of text and the number of pictures in a text, a list of tokens, or OpenAI's parts."""
    if isinstance(content, str):
        return _bytes(content), 0
    if isinstance(content, Mapping):
        text = content.get("text")
        is_image = "image" in str(content.get("type", ""))
        return (_bytes(text) if isinstance(text, str) else 0), int(is_image)
    if isinstance(content, list | tuple):
        parts = [_measured(part) for part in content]
        return sum(size for size, _ in parts), sum(images for _, images in parts)
    # A prompt may be given as tokens.
    return (ceil(BYTES_PER_TOKEN), 0) if isinstance(content, int) else (0, 0)


def _written(structure: Any) -> int:
    """Give the bytes of what a chat template writes as JSON."""
    return len(json.dumps(structure)) if structure else 0


def _count(images: Any) -> int:
    return len(images) if isinstance(images, list | tuple) else 0


def _bytes(text: str) -> int:
    # ASCII is told at a glance, and is most of what is asked.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
