"""What is wrong with a value that a spec refuses, and how it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kloros_infra.compiler.amounts import amount_hint
from kloros_infra.compiler.printable import shortened
from kloros_infra.compiler.respell import respelled
from kloros_infra.compiler.source_values import boolean_meant, number_meant, plain_value
from kloros_infra.compiler.spec_fields import example_of, readers_of
from kloros_infra.compiler.suggest import closest, listed
from kloros_infra.ir.config_models import InstanceSpec
from kloros_infra.ir.written import MEANINGS

EXPECTED_TYPES: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_REFUSALS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("{shown} is too small", "Write {ge} or more."),
    "greater_than": ("{shown} is too small", "Write more than {gt}."),
    "less_than_equal": ("{shown} is too large", "Write {le} or less."),
    "too_short": ("nothing is given", "Give at least one."),
    "string_too_short": ("the text is empty", "Write at least one character."),
    "string_too_long": ("the text is too long", "Keep it within {max_length} characters."),
    "finite_number": ("{shown} is no number to reckon with", "Write a finite number."),
}
_EXACT = 10**15
"""Floats tell whole numbers below this one apart."""


def shown(value: Any, written: str | None) -> str:
    """Show a value in a message: as it is written, cut short, and harmless to a terminal."""
    match value:
        case None:
            return "nothing"
        case str():
            return f'"{shortened(value)}"'
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return shortened(str(value) if written is None else written)


def is_endless(written: str | None) -> bool:
    """Say whether a text is a whole number of more digits than are read as one."""
    return written is not None and re.fullmatch(r"[-+]?[0-9]{21,}", written) is not None


def type_hint(error: ErrorDetails, written: str | None, spec: type[BaseModel]) -> str:
    """Say how a value of the wrong type is written; `spec` is that of its place, whose settings a mapping has."""
    kind, value = error["type"], error["input"]
    if kind == "model_type":
        return _settings_hint(spec)
    if kind == "tuple_type":
        return _list_hint(value, written)
    match kind, value:
        case _, None:
            return "Write a value after the colon."
        case "dict_type", list():
            return "Write each under a name, as `name:` with its settings below, without `- `."
        case "string_type", bool() | int() | float():
            became = "" if str(value) == written else f" Without them it is {json.dumps(value)}."
            return f'Put it in quotes: "{shortened(str(written))}".{became}'
        case _:
            return _scalar_hint(EXPECTED_TYPES[kind], value)


def _list_hint(value: Any, written: str | None) -> str:
    match value:
        case None:
            return "Write [] for an empty list, or the items after the colon."
        case dict():
            return "Write each as an item: a line of its own that begins with `- `."
        case _:
            return f"Put it in brackets: [{shortened(str(written))}]."


def _settings_hint(spec: type[BaseModel]) -> str:
    required = [name for name, field in spec.model_fields.items() if field.is_required()]
    # A model may say nothing of its own under a profile; under the first it must give its port.
    required = ["port"] if spec is InstanceSpec else required
    if len(required) == 1:
        return f"Write its settings below the key, such as {required[0]}: {example_of(spec.model_fields[required[0]])}."
    return f"Write its settings below the key: {listed(required or spec.model_fields)}."


def _scalar_hint(expected: str, value: Any) -> str:
    match expected, value:
        case "a whole number" | "a number" | "true or false", str() if not isinstance(plain_value(value), str):
            return f"Leave out the quotes: {shortened(value)}."
        case "true or false", _:
            meant = boolean_meant(value) if isinstance(value, str) else None
            return f"Write {meant or 'true or false'}; yes, no, on and off are plain text in YAML 1.2."
        case "a whole number", float() if value.is_integer() and abs(value) < _EXACT:
            return f"Write {int(value)}."
        case "a whole number" | "a number", str():
            return number_meant(value) or _thousands(value) or f"Write {expected} here."
        case _:
            return f"Write {expected} here."


def _thousands(text: str) -> str | None:
    found = re.fullmatch(r"([0-9]{1,6})[kK]", text)
    return f"Write {int(found[1]) * 1000} or {int(found[1]) * 1024}." if found else None


def refusal(error: ErrorDetails, value: str, field: FieldInfo | None) -> tuple[str, str]:
    """Say what is wrong with a value of the right type, and what would be right."""
    context = error.get("ctx", {})
    match error["type"]:
        case "string_pattern_mismatch":
            return f"{value} is not accepted", _pattern_hint(str(error["input"]), context["pattern"])
        case "enum" | "literal_error":
            known = re.findall(r"[^', ]+", context["expected"].replace(" or ", ", "))
            return f"{value} is not one of {listed(known)}", _choice_hint(str(error["input"]), known)
        case "value_error":
            return f"{value} is not accepted", _reader_hint(error, field)
        case kind if kind in _REFUSALS:
            what, hint = _REFUSALS[kind]
            return what.format(shown=value), hint.format(**{name: _figure(limit) for name, limit in context.items()})
        case _:
            return f"{value} is not accepted", f"{error['msg']}."


def _figure(limit: Any) -> Any:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _pattern_hint(text: str, pattern: str) -> str:
    expected = f"Expected {MEANINGS.get(pattern, f'text that matches {pattern}')}."
    likely = respelled(text, pattern)
    return expected if likely is None else f"Write {likely}. {expected}"


def _choice_hint(word: str, known: list[str]) -> str:
    if word in known:
        return f"Leave out the quotes: {word}."
    close = closest(word, known)
    if close is not None:
        return f"Did you mean {close!r}?"
    return "Write one of them." if len(known) > 1 else f"Write {known[0]}."


def _reader_hint(error: ErrorDetails, field: FieldInfo | None) -> str:
    reason = str(error.get("ctx", {})["error"])
    expected = f"{reason[0].upper()}{reason[1:]}."
    readers = readers_of(field) if field is not None else ()
    hints = (amount_hint(error["input"], reader) for reader in readers)
    likely = next((hint for hint in hints if hint), None)
    return expected if likely is None else f"{likely} {expected}"
