"""Plain values → a pydantic spec, and pydantic's errors → located diagnostics (KI102 to KI105).

Values go through JSON, because pydantic's strict mode then does what a YAML writer expects: lists
become tuples and words become enum members, while `port: "8601"` and `id: 12` are errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kloros_infra.compiler.printable import shortened
from kloros_infra.compiler.source import Address, Source
from kloros_infra.compiler.spec_fields import example_of, limits_of, place_of, without
from kloros_infra.compiler.spec_keys import SEARCHED, key_hint, known_here
from kloros_infra.compiler.spec_values import EXPECTED_TYPES, is_endless, refusal, shown, type_hint
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.setting import Spec

_LONGEST_PATH = 200
S = TypeVar("S", bound=BaseModel)


def read_spec(source: Source, spec: type[S]) -> tuple[S | None, Problems]:
    """Check a file's values against a spec; report every problem at its place."""
    read, errors = check_tree(source.tree, spec)
    # A list whose items were refused is "too short" to pydantic; the items' own problems say it all.
    own = (error for error in errors if not (error["type"] == "too_short" and error["input"]))
    unknown = count()
    return read, tuple(_problem(error, source, spec, unknown) for error in own)


def check_tree(tree: Any, spec: type[S]) -> tuple[S | None, list[ErrorDetails]]:
    """Check plain values against a spec; a null where a setting may be left out says the same."""
    read, errors = _validated(tree, spec)
    left_out = {address for error in errors if (address := _left_out(error, tree, spec))}
    return _validated(without(tree, left_out), spec) if left_out else (read, errors)


def _validated(tree: Any, spec: type[S]) -> tuple[S | None, list[ErrorDetails]]:
    try:
        return spec.model_validate_json(json.dumps(tree)), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _left_out(error: ErrorDetails, tree: Any, spec: type[BaseModel]) -> Address | None:
    """Say where a null was refused that stands for a setting which may be left out: the two mean the same."""
    if error["input"] is not None or not issubclass(spec, Spec):
        return None
    address = _in_tree(error["loc"], tree)
    place = place_of(address, spec)
    is_optional = place.setting is not None and place.is_setting and not place.setting.is_required()
    return address if is_optional else None


def _problem(error: ErrorDetails, source: Source, spec: type[BaseModel], unknown: Iterator[int]) -> Diagnostic:
    address = _in_tree(error["loc"], source.tree)
    match error["type"]:
        case "missing":
            return _missing(str(error["loc"][-1]), address, source, spec)
        case "extra_forbidden":
            return _unknown_key(address, source, spec, is_searched=next(unknown) < SEARCHED)
        case "int_type" if is_endless(source.written(address)):
            return _too_large(address, source, spec)
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
    example = example_of(place_of((*address, key), spec).setting)
    return Diagnostic(
        code="KI103",
        summary="Missing key",
        detail=f"{_subject(address, source)} has no `{key}`.",
        hint=f"Add `{key}:`." if example is None else f"Add it, such as `{key}: {example}`.",
        span=source.span(address),
        address=source.path((*address, key)),
    )


def _unknown_key(address: Address, source: Source, spec: type[BaseModel], *, is_searched: bool) -> Diagnostic:
    key = str(address[-1])
    here = place_of(address[:-1], spec).spec
    return Diagnostic(
        code="KI102",
        summary="Unknown key",
        detail=f"{_subject(address[:-1], source)} knows no key `{shortened(key)}`.",
        hint=key_hint(key, here) if is_searched else known_here(here),
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
        hint=type_hint(error, written, place_of(address, spec).spec),
        span=source.span(address),
        address=source.path(address),
    )


def _too_large(address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    """Refuse a whole number of so many digits that it was not read as one."""
    written = str(source.written(address))
    setting = place_of(address, spec).setting
    most = next(limits_of(setting), None) if setting is not None else None
    is_negative = written.startswith("-")
    return Diagnostic(
        code="KI105",
        summary="Value not accepted",
        detail=f"{_subject(address, source)}: {shortened(written)} is too {'small' if is_negative else 'large'}.",
        hint="Write fewer digits." if most is None or is_negative else f"Write {most} or less.",
        span=source.span(address),
        address=source.path(address),
    )


def _not_accepted(error: ErrorDetails, address: Address, source: Source, spec: type[BaseModel]) -> Diagnostic:
    is_key = error["loc"][-1] == "[key]"
    value = f"`{shortened(error['input'])}`" if is_key else shown(error["input"], source.written(address))
    what, hint = refusal(error, value, place_of(address, spec).setting)
    return Diagnostic(
        code="KI105",
        summary="Value not accepted",
        detail=f"{_subject(address, source)}: {what}.",
        hint=hint,
        span=source.key_span(address) if is_key else source.span(address),
        address=source.path(address),
    )


def _subject(address: Address, source: Source) -> str:
    return shortened(source.path(address), _LONGEST_PATH) or "The file"
