"""Hints for names that nobody declared."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(word: str, known: Iterable[str]) -> str:
    """Name the likeliest of the known words, or all of them."""
    words = list(dict.fromkeys(known))
    close = get_close_matches(word.lower(), words, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known here: {', '.join(words)}." if words else "Nothing of this kind is declared."
