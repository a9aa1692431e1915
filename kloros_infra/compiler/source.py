"""YAML text → plain values, and the place of each in the text.

Strings, integers, floats, booleans, null, lists and mappings with text keys: the YAML 1.2 core schema, so that `no`
and `12:30:45` stay text. Aliases and merge keys are resolved. What lets a text build types of its own, or hold more
than one value, is refused by name (tags, directives, several documents).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from kloros_infra.compiler import source_problems
from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source_builder import MAX_BYTES, Builder, StopError
from kloros_infra.compiler.source_encoding import BYTE_ORDER_MARK, check_characters
from kloros_infra.compiler.source_events import Events, parser_events
from kloros_infra.compiler.source_nodes import MappingNode, Mark, Node, Scalar, span_of
from kloros_infra.compiler.source_syntax import syntax, without_directives
from kloros_infra.diagnostics import Problems, Span

Address = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file's plain values; asked for an address that is not in the file, it answers for the nearest part that is.

    What an alias brings in stands where it is written. At the places in `unread` stands something that could not be
    read; that was told, and what is found there later follows from it. `anchors` says where names are marked, `unknown`
    where names are repeated that nothing in the file marks.
    """

    file: str
    root: Node
    unread: frozenset[Span] = frozenset()
    anchors: Mapping[str, Span] = field(default_factory=dict)
    unknown: Mapping[Span, str] = field(default_factory=dict)

    @property
    def tree(self) -> Any:
        """Give the values without places."""
        return self.root.value

    def span(self, address: Address) -> Span:
        """Find a scalar, or the key that holds a list or mapping."""
        node, key_mark = self._nearest(address)
        return span_of(node.file, node.mark if isinstance(node, Scalar) else key_mark or node.mark)

    def key_span(self, address: Address) -> Span:
        """Find the key that holds a value, or the value where it is an item of a list."""
        node, key_mark = self._nearest(address)
        return span_of(node.file, key_mark or node.mark)

    def written(self, address: Address) -> str | None:
        """Give a scalar's text as it stands in the file."""
        node: Node | None = self.root
        for part in address:
            node = None if node is None or isinstance(node, Scalar) else node.child(part)
        return node.written if isinstance(node, Scalar) else None

    def path(self, address: Address) -> str:
        """Name an address for people: items of lists by their id where they have one."""
        words: list[str] = []
        value = self.tree
        for part in address:
            value = _child(value, part)
            words.append(printable(_name(value, part)))
        return ".".join(words)

    def _nearest(self, address: Address) -> tuple[Node, Mark | None]:
        node, key_mark = self.root, None
        for part in address:
            child = None if isinstance(node, Scalar) else node.child(part)
            if child is None:
                break
            key_mark = node.keys[str(part)] if isinstance(node, MappingNode) else None
            node = child
        return node, key_mark


def _child(value: Any, part: str | int) -> Any:
    match value, part:
        case dict(), str():
            return value.get(part)
        case list(), int() if part < len(value):
            return value[part]
        case _:
            return None


def _name(value: Any, part: str | int) -> str:
    if isinstance(part, int) and isinstance(value, dict):
        for key in ("id", "version_id"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return str(part)


def read(text: str, *, file: str, events: Events = parser_events) -> tuple[Source | None, Problems]:
    """Read a YAML text as plain values; None where reading had to stop."""
    text = text.removeprefix(BYTE_ORDER_MARK)
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return None, (source_problems.too_big(Span(file, 1, 1), f"The file is larger than {MAX_BYTES // 2**20} MiB."),)
    problems = check_characters(text, file=file)
    if problems:
        return None, problems
    text, problems = without_directives(text, file=file)
    if problems:
        return None, problems
    return _build(text, file, events)


def _build(text: str, file: str, events: Events) -> tuple[Source | None, Problems]:
    builder = Builder(file, text)
    try:
        root = builder.build(events(text))
    except StopError as stop:
        return None, (*builder.problems, *builder.unknown_aliases(), stop.problem)
    except yaml.MarkedYAMLError as error:
        return None, (*builder.problems, *builder.unknown_aliases(), syntax(file, text, error))
    source = Source(file, root, frozenset(builder.unread), builder.anchors, builder.unknown)
    return source, (*builder.problems, *builder.unknown_aliases())
