"""What can be wrong with a YAML text besides its syntax, as diagnostics (KI106 to KI110, KI115 to KI119)."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Severity, Span

_LONGEST_TOLD = 60


def _short(text: str) -> str:
    return printable(text if len(text) <= _LONGEST_TOLD else f"{text[: _LONGEST_TOLD - 1]}…")


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
        hint="Check that this is the right file, and how often its aliases repeat what they stand for.",
        span=span,
    )


def too_many(span: Span, count: int) -> Diagnostic:
    """Say that reading ended because nothing good was to be expected."""
    return Diagnostic(
        code="KI119",
        summary="Too many problems",
        detail=f"Reading stopped here, after {count} problems.",
        hint="Mend those above; what follows is read then.",
        span=span,
    )


def written_twice(span: Span, first: Span, key: str) -> Diagnostic:
    """Say that a mapping has a key twice, of which YAML would silently keep the last."""
    return Diagnostic(
        code="KI106",
        summary="Key written twice",
        detail=f"The key '{_short(key)}' stands in this mapping already, in line {first.line}.",
        hint="Name all mappings to merge in one list: `<<: [*one, *other]`." if key == "<<" else "Keep one of the two.",
        span=span,
    )


def _unsupported(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI107", summary="YAML feature not supported", detail=detail, hint=hint, span=span)


_CORE_TAGS = "tag:yaml.org,2002:"  # what !! stands for


def tag(span: Span, name: str) -> Diagnostic:
    """Refuse `!name`."""
    return _unsupported(
        span,
        f"The tag {_short(name.replace(_CORE_TAGS, '!!', 1))} asks for a type of its own.",
        "Leave the tag out; put text in quotes where it is needed.",
    )


def key_not_text(span: Span) -> Diagnostic:
    """Refuse a list or mapping as a key."""
    return _unsupported(span, "A list or mapping stands where a key must be.", "Use plain text as the key.")


def second_document(span: Span) -> Diagnostic:
    """Refuse what follows `---`."""
    return _unsupported(span, "A second document starts here.", "Keep one document in the file.")


def directive(span: Span, line: str) -> Diagnostic:
    """Refuse a line that begins with %."""
    return _unsupported(
        span,
        f"The directive {_short(line)} changes how YAML is read.",
        "Take the line out; the file is read as YAML 1.2.",
    )


def _not_text(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI109", summary="Not plain UTF-8 text", detail=detail, hint=hint, span=span)


def wide_encoding(span: Span, name: str) -> Diagnostic:
    """Say that a file is UTF-16 or UTF-32."""
    return _not_text(span, f"The file is encoded as {name}.", _convert(name))


def bad_byte(span: Span, byte: int, likely: str | None) -> Diagnostic:
    """Say which byte is not part of any character, and of which encoding it may be."""
    detail = f"Byte 0x{byte:02x} does not belong to UTF-8 text"
    if likely is None:
        return _not_text(span, f"{detail}.", "Save the file as UTF-8.")
    return _not_text(
        span, f"{detail}; in {likely} it is {printable(bytes([byte]).decode(likely))!r}.", _convert(likely)
    )


def _convert(encoding: str) -> str:
    return f"Save the file as UTF-8, in the editor or with `iconv --from-code={encoding} --to-code=UTF-8`."


_ESCAPE_IT = 'Replace the character, or write it as an escape in double quotes: "\\u{:04x}".'


def bad_character(span: Span, character: str) -> Diagnostic:
    """Say which character is not allowed, and what it would do."""
    code_point = ord(character)
    name = f"Character U+{code_point:04X}"
    match character:
        case "\r":
            detail = "A carriage return without line feed ends a line for YAML, but not for most editors and for Git."
            return _not_text(span, detail, "End lines with a line feed: `tr '\\r' '\\n'` replaces them.")
        case "\x85" | "\u2028" | "\u2029":
            detail = f"{name} ends a line for some readers of YAML and not for others."
            return _not_text(span, detail, _ESCAPE_IT.format(code_point))
        case _ if "\u202a" <= character <= "\u2069":
            detail = f"{name} changes the direction of writing, so that the file shows otherwise than it is read."
            return _not_text(span, detail, _ESCAPE_IT.format(code_point))
        case "\ufeff":
            detail = f"{name}, a byte order mark, stands within the text."
            return _not_text(span, detail, "Remove the character; it cannot be seen in most editors.")
        case _:
            return _not_text(span, f"{name} is not allowed in YAML.", "Remove the character.")


def unknown_anchor(span: Span, name: str, before: Iterable[str], further_down: Span | None) -> Diagnostic:
    """Say that an alias repeats what nothing above it marks."""
    if further_down is None:
        hint = suggest(name, before)
    else:
        hint = f"&{_short(name)} comes only in line {further_down.line}; move it above the alias."
    return Diagnostic(
        code="KI115",
        summary="Unknown anchor",
        detail=f"Nothing above this place in the file is marked as &{_short(name)}.",
        hint=hint,
        span=span,
    )


def alias_to_itself(span: Span, name: str) -> Diagnostic:
    """Say that an alias stands within what it repeats."""
    return Diagnostic(
        code="KI116",
        summary="Alias within itself",
        detail=f"*{_short(name)} stands inside the value that &{_short(name)} marks, so it would never end.",
        hint="Mark only the part that is meant, or write the value out.",
        span=span,
    )


def not_mergeable(span: Span) -> Diagnostic:
    """Say that `<<` was given something without keys."""
    return Diagnostic(
        code="KI117",
        summary="Merge of what is no mapping",
        detail="`<<` takes in the keys of a mapping; what is given here is none.",
        hint="Write `<<: *name` or `<<: [*one, *other]`, where the anchors mark mappings.",
        span=span,
    )


def read_otherwise_elsewhere(span: Span, written: str) -> Diagnostic:
    """Warn of a number that begins with 0."""
    value = int(written)
    return Diagnostic(
        code="KI118",
        summary="Number with a leading zero",
        detail=f"{written} is {value} in YAML 1.2; readers of YAML 1.1 take such numbers as octal.",
        hint=f'Write {value}, or put it in quotes if it is text: "{written}".',
        severity=Severity.WARNING,
        span=span,
    )
