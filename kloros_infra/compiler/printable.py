"""Strangers' text in messages: what a terminal or log would act on is shown as an escape."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Write control characters, line breaks and invisible characters as `\n`, `\x1b`, `\u202e`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
