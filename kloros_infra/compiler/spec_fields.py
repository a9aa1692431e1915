"""Which declaration an address in a file belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Le
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from kloros_infra.compiler.source import Address
from kloros_infra.compiler.source_values import plain_value


@dataclass(frozen=True, slots=True)
class Place:
    """What is declared for an address: the innermost spec and setting, and whether it is that setting itself.

    An entry of a mapping by name and an item of a list are no settings.
    """

    spec: type[BaseModel]
    setting: FieldInfo | None = None
    is_setting: bool = False


def place_of(address: Address, spec: type[BaseModel]) -> Place:
    """Find what is declared for an address, as far as anything is."""
    place = Place(spec)
    annotation: Any = spec
    for part in address:
        field = annotation.model_fields.get(str(part)) if _is_spec(annotation) else None
        annotation = _bare(_type_of_parts(annotation) if field is None else field.annotation)
        inner = annotation if _is_spec(annotation) else place.spec
        place = Place(inner, field or place.setting, is_setting=field is not None)
    return place


def _is_spec(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type_of_parts(annotation: Any) -> Any:
    """Give the type of a mapping's values or a list's items."""
    arguments = get_args(annotation)
    return None if not arguments else arguments[1] if get_origin(annotation) is dict else arguments[0]


def _bare(annotation: Any) -> Any:
    """Take constraints off a type, and that it may be null."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def without(tree: Any, addresses: Iterable[Address]) -> Any:
    """Copy values without the keys at some addresses."""
    ends: set[str | int] = set()
    below: dict[str | int, list[Address]] = {}
    for first, *rest in addresses:
        if rest:
            below.setdefault(first, []).append(tuple(rest))
        else:
            ends.add(first)
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    kept = {key: without(part, below[key]) if key in below else part for key, part in items if key not in ends}
    return kept if isinstance(tree, dict) else list(kept.values())


def readers_of(field: FieldInfo) -> Iterator[Callable[..., Any]]:
    """Give the functions that read a setting's written form, those of its items too."""
    return (part.func for part in _constraints(field) if isinstance(part, BeforeValidator))


def limits_of(field: FieldInfo) -> Iterator[Any]:
    """Give the largest number that a setting, or an item of it, may be, as often as it is declared."""
    return (part.le for part in _constraints(field) if isinstance(part, Le))


def _constraints(field: FieldInfo) -> Iterator[Any]:
    waiting: list[Any] = [field]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, FieldInfo):
            waiting += (part.annotation, *part.metadata)
        waiting += (*get_args(part), *getattr(part, "__metadata__", ()))


def example_of(field: FieldInfo | None) -> str | None:
    """Write a setting's example as it would stand in the file, on the line of its key; None where there is none."""
    example = field.examples[0] if field is not None and field.examples else None
    if isinstance(example, str):
        return example if example and plain_value(example) == example and ": " not in example else json.dumps(example)
    return None if example is None else json.dumps(example, ensure_ascii=False)
