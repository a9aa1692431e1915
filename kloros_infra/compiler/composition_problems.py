"""What can be wrong where several files are joined, as diagnostics (KI104, KI105, KI108, KI111 to KI114)."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.compiler.printable import printable
from kloros_infra.diagnostics import Diagnostic, Span

_ADDRESS = "include"
_NAMES = 'Write names of files as text, such as ["models/code.yaml", "personas/*.yaml"].'


def pattern_not_text(span: Span) -> Diagnostic:
    """Refuse what cannot be a file's name."""
    detail = "include must be the name of a file or a list of such names."
    return Diagnostic("KI104", "Wrong type", detail, _NAMES, span=span, address=_ADDRESS)


def pattern_not_accepted(span: Span, text: str) -> Diagnostic:
    """Refuse a name with characters that have no meaning there."""
    return Diagnostic(
        code="KI105",
        summary="Value not accepted",
        detail=f'include: "{printable(text)}" is not accepted.',
        hint="Separate folders by /, and name each of them: `*` stands for one name only, and there is no `**`.",
        span=span,
        address=_ADDRESS,
    )


def too_much(span: Span, limit: int) -> Diagnostic:
    """Say that the files together are beyond what is read."""
    return Diagnostic(
        code="KI108",
        summary="File too big or too deep",
        detail=f"With this file, all files together hold more than {limit} values.",
        hint="Check that `include` names the right files.",
        span=span,
    )


def part_not_mapping(span: Span) -> Diagnostic:
    """Refuse an included file without sections."""
    return Diagnostic(
        code="KI104",
        summary="Wrong type",
        detail="An included file must be a mapping with the sections of models.yaml.",
        hint="Begin it with a section, such as `models:`.",
        span=span,
    )


def declared_twice(span: Span, address: str, first: Span) -> Diagnostic:
    """Say that two files claim one thing."""
    return Diagnostic(
        code="KI111",
        summary="Declared in two files",
        detail=f"{printable(address)} stands in {first} already.",
        hint="Keep it in one of the files.",
        span=span,
        address=printable(address),
    )


def include_within(span: Span) -> Diagnostic:
    """Refuse that an included file includes others."""
    return Diagnostic(
        code="KI112",
        summary="Include inside an included file",
        detail="Only the file that commands are given may include others, so that it shows all there are.",
        hint="Move these names to its `include`.",
        span=span,
        address=_ADDRESS,
    )


def not_found(span: Span, pattern: str) -> Diagnostic:
    """Say that nothing was read for a name or pattern."""
    return Diagnostic(
        code="KI113",
        summary="Include not found",
        detail=f'"{printable(pattern)}" names no other file in the folder of this one.',
        hint="Names are relative to that folder; write `folder/*.yaml` for all files of a folder.",
        span=span,
        address=_ADDRESS,
    )


def not_included(span: Span, name: str, reason: str) -> Diagnostic:
    """Say why something that is there cannot be included."""
    return Diagnostic(
        code="KI113",
        summary="Include not found",
        detail=f'"{printable(name)}" {printable(reason)}.',
        hint="Name further files of YAML, such as models/code.yaml or models/*.yaml.",
        span=span,
        address=_ADDRESS,
    )


def leaves_folder(span: Span, reason: str) -> Diagnostic:
    """Refuse a file outside of what is reviewed together."""
    return Diagnostic(
        code="KI114",
        summary="Include leaves the project folder",
        detail=f"What is included must be in the folder of models.yaml or below it; {printable(reason)}.",
        hint="Move or copy the file into the project's folder.",
        span=span,
        address=_ADDRESS,
    )


def anchor_elsewhere(problem: Diagnostic, marked: Span) -> Diagnostic:
    """Say that an alias repeats what another file marks."""
    where = f"{marked.file}:{marked.line}"
    return replace(problem, hint=f"Anchors work within one file, and this one stands in {where}: write the value out.")
