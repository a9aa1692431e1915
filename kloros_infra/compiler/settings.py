"""Every setting of models.yaml as a value: its path, type, default and what it does, from the declarations in `ir`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from kloros_infra.compiler.composition import INCLUDE
from kloros_infra.compiler.source_values import plain_value
from kloros_infra.compiler.type_words import BRIEF, JsonSchema, type_words
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import InstanceSpec, ModelSpec
from kloros_infra.ir.setting import ACTED_ON, INHERITED, STANDARD, Spec

# What counts before the standard where an inherited setting is left out.
NEARER: Mapping[type[Spec], str] = {
    InstanceSpec: "the model's, then that of `defaults`",
    ModelSpec: "that of `defaults`",
}
PLACES = ("defaults", "models[]", "models[].profiles.<profile>")
"""Where inherited settings can stand, the nearest to an instance last."""
NOT_ACTED_ON = "Checked, but not acted on by this version yet."


class Shape(StrEnum):
    """What is below a setting: nothing, settings, or settings for each of several names or items."""

    VALUE = "value"
    SECTION = "section"
    NAMED = "named"
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `brief_type` leaves out which characters a name may have.

    `default` is its plain value as written where there is one; `default_words` says it in any case.
    """

    path: str
    type_words: str
    brief_type: str
    default_words: str
    doc: str
    example: Any
    is_required: bool
    is_inherited: bool
    is_acted_on: bool
    shape: Shape = Shape.VALUE
    default: Any = None

    @property
    def name(self) -> str:
        """Give the last key of the path."""
        return self.path.rpartition(".")[2]

    @property
    def inside(self) -> str:
        """Give the path of what holds the settings below: an item of a list, an entry of a mapping, or itself."""
        match self.shape:
            case Shape.NAMED:
                return f"{self.path}.<{self.name.removesuffix('s')}>"
            case Shape.LISTED:
                return f"{self.path}[]"
            case _:
                return self.path


INCLUDING = Setting(
    path=INCLUDE,
    type_words="a file's name or a pattern, or a list of those, relative to this file's folder",
    brief_type="names of files, or patterns",
    default_words="none",
    doc=(
        "Further files, whose sections are joined with this one's: their lists follow, and their mappings add keys; no"
        " key may come from two files. `*`, `?` and `[…]` stand for parts of one name."
    ),
    example=["models/*.yaml"],
    is_required=False,
    is_inherited=False,
    is_acted_on=True,
)
"""The one key that is no setting: it says where more of them are."""


@cache
def settings() -> tuple[Setting, ...]:
    """Give every setting, each section before what it holds."""
    whole = Config.model_json_schema()
    definitions: Mapping[str, JsonSchema] = {**whole["$defs"], Config.__name__: whole}
    return (*_walk(Config, "", definitions), INCLUDING)


def children(setting: Setting) -> tuple[Setting, ...]:
    """Give the settings right below one."""
    start = f"{setting.inside}."
    return tuple(one for one in settings() if one.path.startswith(start) and one.path == start + one.name)


def sections() -> tuple[Setting, ...]:
    """Give the settings at the top of the file."""
    return tuple(one for one in settings() if one.path == one.name)


@cache
def declarations(spec: type[Spec]) -> tuple[tuple[str, FieldInfo], ...]:
    """Give a spec's own fields, then those it shares with others."""
    return tuple(sorted(spec.model_fields.items(), key=lambda field: bool(told(field[1], INHERITED))))


def specs() -> Mapping[str, type[Spec]]:
    """Give every part of the file whose settings have names, by its name in pydantic's schema."""
    found: dict[str, type[Spec]] = {}
    waiting: list[type[Spec]] = [Config]
    while waiting:
        spec = waiting.pop()
        found[spec.__name__] = spec
        waiting += (below for name, _ in declarations(spec) if (below := spec_of(spec, name)[1]))
    return found


@cache
def spec_of(spec: type[Spec], name: str) -> tuple[Shape, type[Spec] | None]:
    """Find the spec that a field holds; the answer is kept, as large files ask for each of their values."""
    return spec_within(spec.model_fields[name].annotation)


def spec_within(annotation: Any) -> tuple[Shape, type[Spec] | None]:
    """Find the spec that a field's type holds: itself, for each name, or for each item."""
    found = _spec_in(annotation)
    if found is None:
        return Shape.VALUE, None
    return {dict: Shape.NAMED, tuple: Shape.LISTED}.get(get_origin(annotation), Shape.SECTION), found


@cache
def _specs_acted_on() -> frozenset[type[Spec]]:
    """Find the parts of the file that lie below a setting which something acts on."""
    found: set[type[Spec]] = set()
    waiting: list[type[Spec]] = [Config]
    while waiting:
        spec = waiting.pop()
        found.add(spec)
        acted_on = (name for name, field in declarations(spec) if told(field, ACTED_ON))
        waiting += (below for name in acted_on if (below := spec_of(spec, name)[1]))
    return frozenset(found)


def is_acted_on(spec: type[Spec], field: FieldInfo) -> bool:
    """Say whether a setting does anything in this version: nothing below one that does nothing does anything."""
    return bool(told(field, ACTED_ON)) and spec in _specs_acted_on()


def _spec_in(annotation: Any) -> type[Spec] | None:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _spec_in(argument))), None)


def told(field: FieldInfo, what: str) -> Any:
    """Give what a declaration says by `about`."""
    extra: Any = field.json_schema_extra
    return extra[what]


@dataclass(frozen=True, slots=True)
class Default:
    """What holds where a setting is left out: in words, and as written where it is a plain value."""

    words: str
    value: Any = None


@cache
def default_of(spec: type[Spec], name: str) -> Default:
    """Say what holds where a setting is left out; nothing is said of sections, whose settings have their own."""
    field = spec.model_fields[name]
    if field.is_required() or isinstance(field.default, Spec):
        return Default("")
    standard: str | None = told(field, STANDARD)
    # A sentence is no value: it says what holds by what else is written.
    is_written = standard and " " not in standard and (field.default is not None or told(field, INHERITED))
    value = plain_value(standard) if standard and is_written else _as_written(field.default)
    words = standard or _value_words(value)
    if spec in NEARER and told(field, INHERITED):
        return Default(f"{NEARER[spec]}, then {words}")
    return Default(words, value)


def _as_written(value: Any) -> Any:
    """Give a default as it would be written; None for nothing at all."""
    plain = to_jsonable_python(value)
    return None if plain in ("", [], {}) else plain


def _value_words(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _walk(spec: type[Spec], prefix: str, definitions: Mapping[str, JsonSchema]) -> Iterator[Setting]:
    schemas = definitions[spec.__name__]["properties"]
    for name, field in declarations(spec):
        shape, below = spec_of(spec, name)
        default = default_of(spec, name)
        setting = Setting(
            path=f"{prefix}{name}",
            type_words=type_words(schemas[name], definitions),
            brief_type=type_words(schemas[name], definitions, meanings=BRIEF),
            default_words=default.words,
            doc=str(field.description),
            example=field.examples[0] if field.examples else None,
            is_required=field.is_required(),
            is_inherited=told(field, INHERITED),
            is_acted_on=is_acted_on(spec, field),
            shape=shape,
            default=default.value,
        )
        yield setting
        if below is not None:
            yield from _walk(below, f"{setting.inside}.", definitions)
