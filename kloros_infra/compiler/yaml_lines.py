"""Plain values → YAML text in the project's style, a line at a time and each with the address of what it ends.

What is written here reads back as the same values: by `source`, and by readers of YAML 1.1, for which words such as
`no` and dates are more than text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kloros_infra.compiler.source import Address
from kloros_infra.compiler.source_values import boolean_meant, plain_value
from kloros_infra.ir.written import BANDWIDTH_PATTERN, BYTES_PATTERN, DURATION_PATTERN, PERCENT_PATTERN

FLOW_WIDTH = 96
INDENT = "  "

# Begins with a letter, so that it is neither number nor date; holds nothing that ends a plain scalar, also in brackets.
_PLAIN = re.compile(r"(?:[a-z0-9+]+://?)?/?[A-Za-z_][A-Za-z0-9_.+@/=%()-]*(?: [A-Za-z0-9_.+@/=%()-]+)*")
# A figure with a unit is text to every reader.
_AMOUNT = re.compile("|".join((BYTES_PATTERN, BANDWIDTH_PATTERN, DURATION_PATTERN, PERCENT_PATTERN)))
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of YAML; `address` is that of the value that it says, None where it says none."""

    text: str
    address: Address | None = None


def yaml_lines(value: Any, address: Address = ()) -> Iterator[Line]:
    """Write a value as lines."""
    match value:
        case dict() if value:
            for key, part in value.items():
                yield from _entry(f"{scalar_text(key)}:", part, (*address, key))
        case list() if value and not is_flow(value):
            for index, part in enumerate(value):
                first, *rest = yaml_lines(part, (*address, index))
                yield replace(first, text=f"- {first.text}")
                yield from (_indented(line) for line in rest)
        case _:
            yield Line(flow_text(value), address)


def _entry(key: str, value: Any, address: Address) -> Iterator[Line]:
    match value:
        case str() if _is_literal(value):
            yield Line(f"{key} |" if value.endswith("\n") else f"{key} |-", address)
            yield from (_indented(Line(line)) for line in value.splitlines())
        case dict() | list() if value and not is_flow(value):
            yield Line(key)
            yield from (_indented(line) for line in yaml_lines(value, address))
        case _:
            yield Line(f"{key} {flow_text(value)}", address)


def _indented(line: Line) -> Line:
    return replace(line, text=f"{INDENT}{line.text}" if line.text else "")


def is_flow(value: Any) -> bool:
    """Say whether a list stays on one line: it holds single values, and they are short."""
    return (
        isinstance(value, list)
        and not any(isinstance(part, dict | list) for part in value)
        and len(flow_text(value)) <= FLOW_WIDTH
    )


def flow_text(value: Any) -> str:
    """Write a value on one line."""
    match value:
        case list():
            return f"[{', '.join(flow_text(part) for part in value)}]"
        case dict():
            return f"{{{', '.join(f'{scalar_text(key)}: {flow_text(part)}' for key, part in value.items())}}}"
        case _:
            return scalar_text(value)


def scalar_text(value: Any) -> str:
    """Write a single value: text in quotes where it would be read as something else."""
    match value:
        case str():
            return value if _is_plain(value) else f'"{"".join(map(_escaped, value))}"'
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _is_plain(text: str) -> bool:
    if _PLAIN.fullmatch(text):
        return plain_value(text) == text and boolean_meant(text) is None
    return _AMOUNT.fullmatch(text) is not None


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _is_literal(text: str) -> bool:
    """Say whether text of several lines can stand as it is below `|`, whose indentation its first line gives."""
    lines = text.split("\n")
    has_one_end = not text.endswith("\n\n")
    return len(lines) > 1 and has_one_end and text[0] not in " \n" and all(line.isprintable() for line in lines)
