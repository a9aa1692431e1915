"""A view of models.yaml → the text and the data that `show` prints, of all of it or of what a user asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.resolved_view import View
from kloros_infra.compiler.source import Address, Source
from kloros_infra.compiler.suggest import suggest
from kloros_infra.compiler.yaml_lines import Line, yaml_lines
from kloros_infra.diagnostics import Diagnostic, Problems

COMMENT_COLUMN = 72
"""Longer lines do not move the comments of all others."""


def view_lines(view: View, address: Address = ()) -> Iterator[str]:
    """Write a part of a view as YAML; the comment behind each value says where it comes from."""
    lines = list(yaml_lines(view.value(address), address))
    # The sections of a whole file are as far apart as their lines are long.
    starts = [0] if address else [index for index, line in enumerate(lines) if not line.text.startswith(" ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield from _commented(lines[start:end], view)


def _commented(lines: list[Line], view: View) -> Iterator[str]:
    """Write comments one below the other."""
    lengths = [len(line.text) for line in lines if line.address is not None]
    column = max((length for length in lengths if length < COMMENT_COLUMN), default=0)
    for line in lines:
        yield line.text if line.address is None else f"{line.text:<{column}}  # {view.origin(line.address)}"


def view_data(view: View, source: Source, address: Address = ()) -> dict[str, dict[str, Any]]:
    """Give a part of a view for other programs: each value by its JSON Pointer, with the place that it comes from.

    `path` is how messages name it; names may have full stops in them, so two values can have one path.
    """
    return {
        _pointer(place): {
            "path": source.path(place),
            "value": view.value(place),
            "file": origin.span.file if origin.span else None,
            "line": origin.span.line if origin.span else None,
            "column": origin.span.column if origin.span else None,
            "origin": origin.word,
        }
        for place, origin in view.within(address).items()
    }


def _pointer(address: Address) -> str:
    """Write an address as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in address)


def find_value(tree: Any, asked: str) -> tuple[Address | None, Problems]:
    """Find a model by id, name or alias, or a value by its path such as `models.code.profiles` or `bridge.ports[0]`."""
    models = {name: index for index, model in enumerate(tree.get("models") or ()) for name in _names_of_model(model)}
    if asked in models:
        return ("models", models[asked]), ()
    return _follow(tree, re.sub(r"\[([^\]]*)\]", r".\1", asked), models)


def _names_of_model(model: Mapping[str, Any]) -> Iterator[str]:
    yield from filter(None, (*(model.get("aliases") or ()), model.get("name"), model.get("id")))


def _follow(tree: Any, rest: str, models: Iterable[str]) -> tuple[Address | None, Problems]:
    address: Address = ()
    value = tree
    while rest:
        known = dict(_names(value))
        # A name may have full stops in it: the longest one that fits is meant.
        name = max((one for one in known if f"{rest}.".startswith(f"{one}.")), key=len, default=None)
        if name is None:
            return None, (_nothing_there(rest, known if address else (*known, *models)),)
        address, rest = (*address, known[name]), rest[len(name) + 1 :]
        value = value[known[name]]
    return address, ()


def _names(value: Any) -> Iterator[tuple[str, str | int]]:
    """Give what the parts of a value are called, and their keys or indices."""
    match value:
        case dict():
            yield from ((key, key) for key in value)
        case list():
            for index, part in enumerate(value):
                yield str(index), index
                names = (part.get(key) for key in ("id", "name", "version_id")) if isinstance(part, dict) else ()
                yield from ((name, index) for name in names if isinstance(name, str))
        case _:
            return


def _nothing_there(rest: str, known: Collection[str]) -> Diagnostic:
    names = [name for name in known if not name.isdigit()] or known
    return Diagnostic(
        code="KI536",
        summary="Nothing at this path",
        detail=f"Neither a model nor a value is called `{printable(rest)}` here.",
        hint=suggest(rest.partition(".")[0], names),
    )
