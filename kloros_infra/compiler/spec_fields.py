"""Which declaration an address in a file belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from kloros_infra.compiler.source import Address
from kloros_infra.compiler.source_values import plain_value


def spec_at(address: Address, spec: type[BaseModel]) -> type[BaseModel]:
    """Find the spec of a place: keys that are no fields are names or indices within the field's value."""
    for part in address:
        field = spec.model_fields.get(str(part))
        spec = next(_specs_in(field.annotation), spec) if field else spec
    return spec


def field_at(address: Address, spec: type[BaseModel]) -> FieldInfo | None:
    """Find the declaration of a setting, or of the list or mapping that it is an item of."""
    field = None
    for part in address:
        field = spec.model_fields.get(str(part), field)
        spec = next(_specs_in(field.annotation), spec) if field else spec
    return field


def _specs_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs_in(argument)


def readers_of(field: FieldInfo) -> Iterator[Callable[..., Any]]:
    """Give the functions that read a setting's written form, those of its items too."""
    waiting: list[Any] = [field.annotation, *field.metadata]
    while waiting:
        part = waiting.pop()
        if isinstance(part, BeforeValidator):
            yield part.func
        waiting += (*get_args(part), *getattr(part, "__metadata__", ()))


def example_of(field: FieldInfo | None) -> str | None:
    """Write a setting's example as it would stand in the file, on the line of its key; None where there is none."""
    example = field.examples[0] if field is not None and field.examples else None
    if isinstance(example, str):
        return example if example and plain_value(example) == example and ": " not in example else json.dumps(example)
    return None if example is None else json.dumps(example, ensure_ascii=False)
