"""Separate what a reasoning model thinks from what it answers."""

from __future__ import annotations

OPENING = "<think>"
CLOSING = "</think>"


def split_thinking(text: str) -> tuple[str, str]:
    """Give (reasoning, answer); an answer cut off while thinking is all reasoning.

    llama-server does this itself (`--reasoning-format`) for the templates it knows. DeepSeek-R1's
    template opens the block in the prompt, so a text may have the closing mark alone.
    """
    opened = text.lstrip().startswith(OPENING)
    if CLOSING in text:
        reasoning, _, answer = text.partition(CLOSING)
        return reasoning.strip().removeprefix(OPENING).strip(), answer.lstrip()
    return (text.strip().removeprefix(OPENING).strip(), "") if opened else ("", text)
