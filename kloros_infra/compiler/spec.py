"""Plain values → a pydantic spec, and pydantic's errors → located diagnostics (KI102 to KI105).

Values go through JSON, because pydantic's strict mode then does what a YAML writer expects: lists
become tuples and words become enum members, while `port: "8601"` and `id: 12` are errors.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source import Address, Source
from kloros_infra.compiler.spec_fields import example_of, field_at, spec_at
from kloros_infra.compiler.spec_keys import key_hint
from kloros_infra.compiler.spec_values import EXPECTED_TYPES, refusal, shown, type_hint
from kloros_infra.diagnostics import Diagnostic, Problems

S = TypeVar("S", bound=BaseModel)


def read_spec(source: Source, spec: type[S]) -> tuple[S | None, Problems]:
    """Check a file's values against a spec; report every problem at its place."""
    try:
        return spec.model_validate_json(json.dumps(source.tree)), ()
    except ValidationError as error:
        # A list whose items were refused is "too short" to pydantic; the items' own problems say it all.
        own = (e for e in error.errors(include_url=False) if not (e["type"] == "too_short" and e["input"]))
        return None, tuple(_problem(detail, source, spec) for detail in own)


def _problem(error: ErrorDetails, source: Source, spec: type[BaseModel]) -> Diagnostic:
    address = _in_tree(error["loc"], source.tree)
    match error["type"]:
        case "missing":
            return _missing(str(error["loc"][-1]), address, source, spec)
        case "extra_forbidden":
            return _unknown_key(address, source, spec)
        case kind if kind in EXPECTED_TYPES:
            return _wrong_type(error, address, source, spec)
        case _:
            return _not_accepted(error, address, source, spec)


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


def _missing(key: str, address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    example = example_of(field_at((*address, key), spec))
    return Diagnostic(
        code="KI103",
        summary="Missing key",
        detail=f"{_subject(address, source)} has no `{key}`.",
        hint=f"Add `{key}:`." if example is None else f"Add it, such as `{key}: {example}`.",
        span=source.span(address),
        address=source.path((*address, key)),
    )


def _unknown_key(address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    key = str(address[-1])
    return Diagnostic(
        code="KI102",
        summary="Unknown key",
        detail=f"{_subject(address[:-1], source)} knows no key `{printable(key)}`.",
        hint=key_hint(key, spec_at(address[:-1], spec)),
        span=source.key_span(address),
        address=source.path(address),
    )


def _wrong_type(error: ErrorDetails, address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    expected = EXPECTED_TYPES[error["type"]]
    written = source.written(address)
    return Diagnostic(
        code="KI104",
        summary="Wrong type",
        detail=f"{_subject(address, source)} must be {expected}, not {shown(error['input'], written)}.",
        hint=type_hint(error, written, spec_at(address, spec)),
        span=source.span(address),
        address=source.path(address),
    )


def _not_accepted(error: ErrorDetails, address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    is_key = error["loc"][-1] == "[key]"
    value = f"`{printable(error['input'])}`" if is_key else shown(error["input"], source.written(address))
    what, hint = refusal(error, value, field_at(address, spec))
    return Diagnostic(
        code="KI105",
        summary="Value not accepted",
        detail=f"{_subject(address, source)}: {what}.",
        hint=hint,
        span=source.key_span(address) if is_key else source.span(address),
        address=source.path(address),
    )


def _subject(address: Address, source: Source) -> str:
    return source.path(address) or "The file"
