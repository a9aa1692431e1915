"""Hints for names that nobody declared."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 20


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Find the likeliest of the known words; None where none is like it."""
    # Neither letters' case nor a hyphen for an underscore is what makes two names different things.
    folded = {_folded(one): one for one in reversed(tuple(known))}
    close = get_close_matches(_folded(word), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def suggest(word: str, known: Iterable[str]) -> str:
    """Name the likeliest of the known words, or all of them."""
    words = list(dict.fromkeys(known))
    close = closest(word, words)
    if close is not None:
        return f"Did you mean {close!r}?"
    return f"Known here: {listed(words)}." if words else "Nothing of this kind is declared."


def listed(words: Iterable[str]) -> str:
    """Write words one after the other; of very many, the first ones and how many more there are."""
    every = list(words)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN + 1 else ""
    return ", ".join(every[:_SHOWN] if more else every) + more


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")
