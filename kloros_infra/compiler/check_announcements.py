"""Checks of what is said aloud: words in braces stand for something (KI281), and somebody hears them (KI282)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.suggest import closest, listed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.announcements import PLACEHOLDER, News

SECTION = ("observability", "announcements")


def check_announcements(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find words in braces that nothing can be put in place of, braces alone, and settings of what is never said."""
    written = parsed.config.observability
    if "announcements" in written.model_fields_set and "announce" not in written.model_fields_set:
        yield parsed.locate(_never_said(), SECTION, at_key=True)
    for news, text in written.announcements.texts.by_news.items():
        unknown = dict.fromkeys(word for word in PLACEHOLDER.findall(text) if word not in news.placeholders)
        found = [f"{{{word}}}" for word in unknown]
        found += dict.fromkeys(char for char in PLACEHOLDER.sub("", text) if char in "{}")
        if found:
            yield parsed.locate(_unknown(news, found), (*SECTION, "texts", news.value))


def _never_said() -> Diagnostic:
    return Diagnostic(
        code="KI282",
        summary="Announcements that nobody hears",
        detail="What is announced is said here, and nothing is announced unless that is switched on.",
        hint="Add `announce: true` beside it, or `announce: false` where it is meant so.",
        severity=Severity.WARNING,
    )


def _unknown(news: News, written: list[str]) -> Diagnostic:
    known = [f"{{{one}}}" for one in news.placeholders]
    close = closest(written[0], known) if len(written) == 1 else None
    return Diagnostic(
        code="KI281",
        summary="Words in braces that stand for nothing",
        detail=f"The text of {news.value} has {listed(written)}, in whose place nothing can be said.",
        hint=f"Did you mean {close}?" if close else f"In this text there can be {listed(known)}, and no other braces.",
    )
