"""Plain data → YAML text, in the manner of what stands beside it.

ruamel.yaml writes the words, as it knows which need quotes in YAML 1.2; lines and indentation follow the neighbours.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, assert_never

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from kloros_infra.compiler.source_values import plain_value
from kloros_infra.editing.edits import Scalar, Value
from kloros_infra.editing.looks import INDENT, Looks, step_of, value_column
from kloros_infra.editing.nodes import Kind, Node

# A list or mapping of single values stays on one line up to this length.
FLOW_WIDTH = 96


def block_text(value: Value, *, indent: int = 0) -> str:
    """Write data as the lines of a new file, indented by so many blanks."""
    return "".join(f"{' ' * indent}{line}".rstrip(" ") + "\n" for line in value_lines(value, Looks()))


def value_lines(value: Value, looks: Looks) -> list[str]:
    """Write a value as lines: one for what stays on a line, more for a block; not indented."""
    match value:
        case str():
            return [scalar_text(value, looks.quote)]
        case Mapping() if not _is_flow(value, looks, is_item=True):
            return _mapping_lines(value, looks)
        case Sequence() if not _is_flow(value, looks, is_item=True):
            return _list_lines(value, looks)
        case _:
            return [flow_text(value, looks)]


def entry_lines(key: str, value: Value, looks: Looks, *, width: int = 0) -> list[str]:
    """Write `key: value` as lines; a value on the key's line begins at `width` at the earliest."""
    name = f"{scalar_text(key, '')}:"
    match value:
        case str() if can_be_literal(value):
            return [f"{name} {literal_header(value)}", *_indented(value.splitlines(), INDENT)]
        case Mapping() if not _is_flow(value, looks):
            return [name, *_indented(_mapping_lines(value, looks), _step(looks, Kind.MAPPING))]
        case Sequence() if not isinstance(value, str) and not _is_flow(value, looks):
            return [name, *_indented(_list_lines(value, looks), _step(looks, Kind.LIST))]
        case _:
            return [f"{name} ".ljust(width) + flow_text(value, looks)]


def flow_text(value: Value, looks: Looks, *, is_inside: bool = False) -> str:
    """Write a value on one line; `is_inside` says that brackets stand around it."""
    match value:
        case str() | int() | float() | bool() | None:
            return scalar_text(value, looks.quote, is_inside=is_inside)
        case Mapping():
            pairs = (
                f"{scalar_text(key, '', is_inside=True)}: {flow_text(part, looks.at_key(key), is_inside=True)}"
                for key, part in value.items()
            )
            return f"{{{', '.join(pairs)}}}"
        case _:
            return f"[{', '.join(flow_text(part, looks.item(), is_inside=True) for part in value)}]"


def scalar_text(value: Scalar, quote: str, *, is_inside: bool = False) -> str:
    """Write a single value on one line, with the quotes asked for, or with double ones where it needs some."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _quoted(value, quote, is_inside=is_inside)
        case _ as never:
            assert_never(never)


def can_be_literal(text: str) -> bool:
    """Say whether a text of several lines can stand as it is below `|`."""
    lines = text.removesuffix("\n").split("\n")
    is_plain = all(line.isprintable() and not line.endswith(" ") for line in lines)
    return "\n" in text and is_plain and bool(lines[0]) and bool(lines[-1]) and not lines[0].startswith(" ")


def literal_header(text: str) -> str:
    """Say by `|` or `|-` whether the last line ends."""
    return "|" if text.endswith("\n") else "|-"


def _quoted(text: str, quote: str, *, is_inside: bool) -> str:
    # PyYAML reads ?x between brackets as a key; ruamel does not.
    if not quote and text.isprintable() and not text.startswith(("?", "-", ":")):
        plain = _written(text, "", is_inside=is_inside)
        # ruamel knows the same numbers and words as our reader but for a few spellings.
        if plain == text and isinstance(plain_value(plain), str) and not _is_surprising(plain):
            return plain
    is_single = quote == "'" and text.isprintable()
    return _written(text, "'" if is_single else '"', is_inside=is_inside)


def _is_surprising(plain: str) -> bool:
    """Say whether a reader of YAML 1.1, an editor perhaps, takes a plain text such as `no` for something else."""
    resolver: Any = yaml.SafeLoader("")
    return bool(resolver.resolve(yaml.ScalarNode, plain, (True, False)) != "tag:yaml.org,2002:str")


@cache
def _written(text: str, quote: str, *, is_inside: bool) -> str:
    styled = {"": str, "'": SingleQuotedScalarString, '"': DoubleQuotedScalarString}[quote](text)
    items = CommentedSeq([styled])
    if is_inside:
        items.fa.set_flow_style()
    writer = YAML()
    writer.width = sys.maxsize
    stream = io.StringIO()
    writer.dump(items, stream)
    written = stream.getvalue().removesuffix("\n")
    return written[1:-1] if is_inside else written.removeprefix("- ")


def _mapping_lines(value: Mapping[str, Value], looks: Looks) -> list[str]:
    example = looks.first(Kind.MAPPING)
    is_lined_up = example is not None and value_column(example[0]) is not None
    width = max(len(scalar_text(key, "")) for key in value) + len(": ") if is_lined_up else 0
    lines: list[str] = []
    for key, part in value.items():
        own = looks.at_key(key)
        # Where keys are names, such as profiles', any other entry shows the manner.
        like = own if own.examples or not isinstance(part, Mapping) else looks.at_any_key()
        lines += entry_lines(key, part, like, width=width)
    return lines


def _list_lines(value: Sequence[Value], looks: Looks) -> list[str]:
    lines: list[str] = []
    for part in value:
        first, *rest = value_lines(part, looks.item())
        lines += [f"- {first}", *_indented(rest, len("- "))]
    return lines


def _indented(lines: Sequence[str], step: int) -> list[str]:
    return [" " * step + line if line else "" for line in lines]


def _step(looks: Looks, kind: Kind) -> int:
    example = looks.first(kind)
    return step_of(*example, otherwise=INDENT) if example is not None else INDENT


def _is_flow(value: Mapping[str, Value] | Sequence[Value], looks: Looks, *, is_item: bool = False) -> bool:
    """Say whether a list or mapping stays on one line: as its neighbours do, or if it is short and holds no other."""
    if not value:
        return True
    parts = list(value.values() if isinstance(value, Mapping) else value)
    if any(isinstance(part, str) and can_be_literal(part) for part in parts):
        return False
    is_deep = any(_is_nested(part) for part in parts)
    example = looks.first(Kind.MAPPING if isinstance(value, Mapping) else Kind.LIST)
    if example is not None and (example[0].is_block or not is_deep or _is_deep(example[0])):
        return example[0].is_flow
    return not is_item and not is_deep and len(flow_text(value, looks)) <= FLOW_WIDTH


def _is_deep(example: Node) -> bool:
    return any(part.kind is Kind.MAPPING or any(item.values for item in part.items) for part in example.values)


def _is_nested(part: Value) -> bool:
    """Say whether a part is a mapping, or a list that holds any: too much for one line."""
    match part:
        case Mapping():
            return bool(part)
        case str():
            return False
        case Sequence():
            return any(not isinstance(item, str) and isinstance(item, (Mapping, Sequence)) for item in part)
        case _:
            return False
