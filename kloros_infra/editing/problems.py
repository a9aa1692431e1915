"""What can keep an edit from being made (KI120 to KI123)."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Span
from kloros_infra.editing.edits import Address, address_text
from kloros_infra.editing.nodes import NotEditableError


def not_editable(file: str, error: NotEditableError) -> Diagnostic:
    """Say that a file's text cannot be laid out."""
    return Diagnostic(
        code="KI120",
        summary="File cannot be edited",
        detail=f"Its text is not one whole YAML document: {printable(error.reason)}.",
        hint="Run `kloros-infra validate` and mend what it reports.",
        span=Span(file, error.line, error.column),
    )


def shared_value(span: Span, address: Address, how: str) -> Diagnostic:
    """Say that an edit here would change other places too."""
    return Diagnostic(
        code="KI121",
        summary="Value shared with other places",
        detail=f"{address_text(address)} {how}, so an edit would change other places too.",
        hint="Write the value out where it is to differ, then run the command again.",
        span=span,
        address=address_text(address),
    )


def nothing_there(file: str, address: Address, missing: str, known: Iterable[str]) -> Diagnostic:
    """Say which part of an address is not in the file."""
    return Diagnostic(
        code="KI122",
        summary="Nothing of that name in the file",
        detail=f"{address_text(address)}: there is no {printable(missing)!r}.",
        hint=suggest(missing, known),
        span=Span(file, 1, 1),
        address=address_text(address),
    )


def unusual_spelling(span: Span, address: Address, reason: str) -> Diagnostic:
    """Say that an edit cannot be made without rewriting what stands around it."""
    return Diagnostic(
        code="KI123",
        summary="Edit left to you",
        detail=f"{address_text(address)}: {reason}. Nothing was changed.",
        hint="Make this change with an editor.",
        span=span,
        address=address_text(address),
    )
