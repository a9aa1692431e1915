"""Other programs' names → names of models.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kloros_infra.ir.names import NAME_PATTERN
from kloros_infra.ir.written import ALIAS_PATTERN

LATEST = ":latest"
NAMELESS = "model"
"""What a model is called whose own name has no letter and no digit."""


def is_name(text: str) -> bool:
    """Say whether a text can stand as a name of models.yaml."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def is_alias(text: str) -> bool:
    """Say whether a text can stand as an alias."""
    return re.fullmatch(ALIAS_PATTERN, text) is not None


def called(name: str) -> str:
    """Give a name as requests are compared by: `name` and `name:latest` are one, as in Ollama."""
    return name.removesuffix(LATEST)


def aliases_of(names: Iterable[str], own: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sort names into aliases, without those that `own` names say already, and those that no alias can be."""
    said = {called(name) for name in own}
    wanted = dict.fromkeys(called(name) for name in names)
    return (
        tuple(name for name in wanted if name not in said and is_alias(name)),
        tuple(name for name in wanted if name not in said and not is_alias(name)),
    )


def on_one_line(text: str) -> str:
    """Make any text fit for a value that stays on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
