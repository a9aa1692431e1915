"""What can be wrong with a YAML text, as diagnostics (KI101, KI106 to KI110)."""

from __future__ import annotations

from typing import Any

import yaml

from kloros_infra.compiler.printable import printable
from kloros_infra.diagnostics import Diagnostic, Span


def empty(span: Span) -> Diagnostic:
    """Say that the file holds nothing."""
    return Diagnostic(
        code="KI110",
        summary="Empty file",
        detail="The file holds no values.",
        hint="Start from one of the files below examples/.",
        span=span,
    )


def too_big(span: Span, detail: str) -> Diagnostic:
    """Say that the file is beyond what is read."""
    return Diagnostic(
        code="KI108",
        summary="File too big or too deep",
        detail=detail,
        hint="Check that this is the right file; a machine's description is a few hundred lines.",
        span=span,
    )


def written_twice(span: Span, first: Span, key: str) -> Diagnostic:
    """Say that a mapping has a key twice, of which YAML would silently keep the last."""
    return Diagnostic(
        code="KI106",
        summary="Key written twice",
        detail=f"The key {printable(key)!r} stands in this mapping already, in line {first.line}.",
        hint="Keep one of the two.",
        span=span,
    )


def _unsupported(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI107", summary="YAML feature not supported", detail=detail, hint=hint, span=span)


_WRITE_OUT = "Write the value out; what all models share can stand once under `defaults`."


def anchor(span: Span, name: str) -> Diagnostic:
    """Refuse `&name`."""
    return _unsupported(span, f"&{name} marks a value for use elsewhere.", _WRITE_OUT)


def alias(span: Span, name: str) -> Diagnostic:
    """Refuse `*name`."""
    return _unsupported(span, f"*{name} repeats a value from elsewhere.", _WRITE_OUT)


def merge_key(span: Span) -> Diagnostic:
    """Refuse `<<`."""
    return _unsupported(span, "<< merges another mapping into this one.", _WRITE_OUT)


def tag(span: Span, name: str) -> Diagnostic:
    """Refuse `!name`."""
    return _unsupported(
        span,
        f"The tag {printable(name)} asks for a type of its own.",
        "Leave the tag out; put text in quotes where it is needed.",
    )


def key_not_text(span: Span) -> Diagnostic:
    """Refuse a list or mapping as a key."""
    return _unsupported(span, "A list or mapping stands where a key must be.", "Use plain text as the key.")


def second_document(span: Span) -> Diagnostic:
    """Refuse what follows `---`."""
    return _unsupported(span, "A second document starts here.", "Keep one document in the file.")


def _not_text(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI109", summary="Not UTF-8 text", detail=detail, hint=hint, span=span)


def bad_byte(file: str, before: str, byte: int) -> Diagnostic:
    """Say which byte is not part of any character; `before` is the text up to it."""
    detail = f"Byte 0x{byte:02x} does not belong to UTF-8 text."
    return _not_text(_after(file, before), detail, "Save the file as UTF-8.")


def bad_character(file: str, before: str, code_point: int) -> Diagnostic:
    """Say which character YAML does not allow; `before` is the text up to it."""
    detail = f"Character U+{code_point:04X} is not allowed in YAML."
    return _not_text(_after(file, before), detail, "Remove the character.")


def lone_surrogate(span: Span) -> Diagnostic:
    """Refuse an escape such as "\\ud800"."""
    detail = "An escape in this text stands for half a character (U+D800 to U+DFFF)."
    return _not_text(span, detail, "Write the character itself, or its \\U escape.")


def _after(file: str, before: str) -> Span:
    return Span(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI101", summary="Not valid YAML", detail=detail, hint=hint, span=span)


def number_out_of_range(last: Span) -> Diagnostic:
    """Refuse an escape or version number that no character or version has; `last` is what came before it."""
    return _syntax(
        last,
        "After this place stands a character code or version number that is out of range.",
        "Check the \\x, \\u and \\U escapes in double-quoted text.",
    )


_UNCLOSED = "Close the quote or bracket that is opened here."
_LOOK_AROUND = "Check indentation, colons, quotes and brackets here and in the line before."
_HINTS = (
    (
        "mapping values are not allowed here",
        "Check the indentation; put text that contains a colon and a space in quotes.",
    ),
    ("found character '\\t'", "Indent with spaces; YAML does not allow tabs there."),
    ("could not find expected ':'", "Write `key: value`, with a space after the colon."),
    ("cannot start any token", "Put the text in quotes."),
)


def syntax(file: str, error: yaml.MarkedYAMLError) -> Diagnostic:
    """Say where reading had to stop; for something never closed, where it was opened."""
    said = str(error.problem)
    is_unclosed = error.context_mark is not None and ("end of stream" in said or "<stream end>" in said)
    mark: Any = error.context_mark if is_unclosed else error.problem_mark
    hints = (hint for words, hint in _HINTS if words in said)
    hint = _UNCLOSED if is_unclosed else next(hints, _LOOK_AROUND)
    context = f" ({error.context})" if error.context else ""
    return _syntax(Span(file, mark.line + 1, mark.column + 1), f"Reading stopped here: {said}{context}.", hint)
