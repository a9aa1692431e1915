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


class Speech:
    """Lets the answer of a text through that comes in pieces; together they are what `split_thinking` gives.

    Only a block whose opening mark is in the text can be kept back: what came before a closing mark alone is said.
    """

    def __init__(self) -> None:
        self._held = ""
        self._is_thinking = self._has_thought = self._is_speaking = False

    def feed(self, piece: str) -> str:
        """Give what may be said now."""
        if self._is_speaking:
            return piece
        self._held += piece
        if not self._is_thinking and not self._has_thought:
            begun = self._held.lstrip()
            if len(begun) < len(OPENING) and OPENING.startswith(begun):
                return ""
            self._is_thinking = begun.startswith(OPENING)
        if self._is_thinking:
            _, mark, rest = self._held.partition(CLOSING)
            if not mark:
                return ""
            self._is_thinking, self._has_thought, self._held = False, True, rest
        if self._has_thought:
            self._held = self._held.lstrip()
            if not self._held:
                return ""
        self._is_speaking = True
        return self._held

    def rest(self) -> str:
        """Give what was held back at the end of the text."""
        return "" if self._is_speaking or self._is_thinking or self._has_thought else self._held
