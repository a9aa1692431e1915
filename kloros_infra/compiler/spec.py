"""Plain values → a pydantic spec, and pydantic's errors → located diagnostics (KI102 to KI105).

Values go through JSON, because pydantic's strict mode then does what a YAML writer expects: lists
become tuples and words become enum members, while `port: "8601"` and `id: 12` are errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source import Address, Source, plain_value
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.config import MEANINGS

S = TypeVar("S", bound=BaseModel)


def read_spec(source: Source, spec: type[S]) -> tuple[S | None, Problems]:
    """Check a file's values against a spec; report every problem at its place."""
    try:
        return spec.model_validate_json(json.dumps(source.tree)), ()
    except ValidationError as error:
        # A list whose items were refused is "too short" to pydantic; the items' own problems say it all.
        own = (e for e in error.errors(include_url=False) if not (e["type"] == "too_short" and e["input"]))
        return None, tuple(_problem(detail, source, spec) for detail in own)


_EXPECTED_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def _problem(error: ErrorDetails, source: Source, spec: type[BaseModel]) -> Diagnostic:
    address = _in_tree(error["loc"], source.tree)
    match error["type"]:
        case "missing":
            return _missing(str(error["loc"][-1]), address, source)
        case "extra_forbidden":
            return _unknown_key(address, source, spec)
        case kind if kind in _EXPECTED_TYPES:
            return _wrong_type(error, address, source)
        case _:
            return _not_accepted(error, address, source)


def _in_tree(location: tuple[int | str, ...], tree: Any) -> Address:
    """Keep what pydantic's location has in common with the file; the rest names pydantic's own parts."""
    address: list[str | int] = []
    value = tree
    for part in location:
        match value, part:
            case dict(), str() if part in value:
                value = value[part]
            case list(), int():
                value = value[part]
            case _:
                break
        address.append(part)
    return tuple(address)


def _missing(key: str, address: Address, source: Source) -> Diagnostic:
    return Diagnostic(
        code="KI103",
        summary="Missing key",
        detail=f"{source.path(address) or 'The file'} has no `{key}`.",
        hint=f"Add `{key}:`.",
        span=source.span(address),
        address=source.path((*address, key)),
    )


def _unknown_key(address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    key = str(address[-1])
    return Diagnostic(
        code="KI102",
        summary="Unknown key",
        detail=f"{source.path(address[:-1]) or 'The file'} knows no key `{printable(key)}`.",
        hint=suggest(key, _spec_at(address[:-1], spec).model_fields),
        span=source.key_span(address),
        address=source.path(address),
    )


def _spec_at(address: Address, spec: type[BaseModel]) -> type[BaseModel]:
    """Find the spec of a place: keys that are no fields are names or indices within the field's value."""
    for part in address:
        field = spec.model_fields.get(str(part))
        spec = next(_specs_in(field.annotation), spec) if field else spec
    return spec


def _specs_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs_in(argument)


def _wrong_type(error: ErrorDetails, address: Address, source: Source) -> Diagnostic:
    expected = _EXPECTED_TYPES[error["type"]]
    written = source.written(address)
    return Diagnostic(
        code="KI104",
        summary="Wrong type",
        detail=f"{_subject(address, source)} must be {expected}, not {_shown(error['input'], written)}.",
        hint=_type_hint(expected, error["input"], written),
        span=source.span(address),
        address=source.path(address),
    )


def _type_hint(expected: str, value: Any, written: str | None) -> str:
    match expected, value:
        case _, None:
            return "Write a value after the colon; a key that is not needed can be left out."
        case "text", bool() | int() | float():
            return f'Put it in quotes: "{written}".'
        case "a whole number" | "a number" | "true or false", str() if not isinstance(plain_value(value), str):
            return f"Leave out the quotes: {value}."
        case "true or false", _:
            return "Write true or false; yes, no, on and off are plain text in YAML 1.2."
        case "a list", str() | bool() | int() | float():
            return f"Put it in brackets: [{printable(str(written))}]."
        case _:
            return f"Write {expected} here."


def _not_accepted(error: ErrorDetails, address: Address, source: Source) -> Diagnostic:
    is_key = error["loc"][-1] == "[key]"
    shown = f"`{printable(error['input'])}`" if is_key else _shown(error["input"], source.written(address))
    what, hint = _refusal(error, shown)
    return Diagnostic(
        code="KI105",
        summary="Value not accepted",
        detail=f"{_subject(address, source)}: {what}.",
        hint=hint,
        span=source.key_span(address) if is_key else source.span(address),
        address=source.path(address),
    )


_REFUSALS = {
    "greater_than_equal": ("{shown} is too small", "Write {ge} or more."),
    "greater_than": ("{shown} is too small", "Write more than {gt}."),
    "less_than_equal": ("{shown} is too large", "Write {le} or less."),
    "too_short": ("nothing is given", "Give at least one."),
    "string_too_short": ("the text is empty", "Write at least one character."),
    "string_too_long": ("the text is too long", "Keep it within {max_length} characters."),
}


def _refusal(error: ErrorDetails, shown: str) -> tuple[str, str]:
    """Say what is wrong with a value of the right type, and what would be right."""
    context = error.get("ctx", {})
    match error["type"]:
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            return f"{shown} is not accepted", f"Expected {MEANINGS.get(pattern, f'text that matches {pattern}')}."
        case "enum" | "literal_error":
            known = re.findall(r"[^', ]+", context["expected"].replace(" or ", ", "))
            return f"{shown} is not one of {', '.join(known)}", suggest(str(error["input"]), known)
        case "value_error":
            reason = str(context["error"])
            return f"{shown} is not accepted", f"{reason[0].upper()}{reason[1:]}."
        case kind if kind in _REFUSALS:
            what, hint = _REFUSALS[kind]
            return what.format(shown=shown), hint.format(**context)
        case _:
            return f"{shown} is not accepted", f"{error['msg']}."


def _subject(address: Address, source: Source) -> str:
    return source.path(address) or "The file"


def _shown(value: Any, written: str | None) -> str:
    match value:
        case None:
            return "nothing"
        case str():
            return f'"{printable(value)}"' if len(value) <= 60 else f'"{printable(value[:59])}…"'
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return str(value) if written is None else written
