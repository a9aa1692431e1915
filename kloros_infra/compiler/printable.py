"""Strangers' text in messages: what a terminal or log would act on is shown as an escape."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Write control characters, line breaks and invisible characters as `\n`, `\x1b`, `\u202e`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str, longest: int = 60) -> str:
    """Make text printable and cut it where it is too long for a message."""
    return printable(text if len(text) <= longest else f"{text[: longest - 1]}…")
