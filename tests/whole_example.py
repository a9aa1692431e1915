"""A models.yaml in which every setting stands, with its own example."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kloros_infra.compiler.composition import INCLUDE
from kloros_infra.compiler.settings import Setting, Shape, children, sections


def whole_example() -> dict[str, Any]:
    """Build the values of that file; names are those of the sections' examples."""
    return _together(one for one in sections() if one.name != INCLUDE)


def _together(level: Iterable[Setting]) -> dict[str, Any]:
    return {one.name: _value(one) for one in level}


def _value(setting: Setting) -> Any:
    below = children(setting)
    match setting.shape:
        case Shape.NAMED:
            return {name: _together(below) for name in setting.example}
        case Shape.LISTED:
            return [_together(below)]
        case Shape.SECTION:
            return _together(below)
        case Shape.VALUE:
            return setting.example
