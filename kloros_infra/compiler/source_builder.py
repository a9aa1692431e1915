"""Parser events → nodes: aliases, merge keys, and the bounds that keep a file from growing while it is read.

Open lists and mappings are kept on a stack here instead of recursing. The handlers run once for every value of a file:
they do little, and places stay the parser's marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import yaml

from kloros_infra.compiler import source_problems, source_syntax
from kloros_infra.compiler.source_encoding import place_after
from kloros_infra.compiler.source_nodes import ListNode, MappingNode, Mark, Node, OwnMark, Scalar, span_of
from kloros_infra.compiler.source_open import OpenBranch
from kloros_infra.compiler.source_values import is_read_otherwise_elsewhere, plain_value
from kloros_infra.diagnostics import Diagnostic, Problems, Span

MAX_BYTES = 10 * 2**20
MAX_DEPTH = 32
# A thousand models with forty settings each are less than a hundred thousand values.
MAX_VALUES = 500_000
MAX_PROBLEMS = 100
MAX_ANCHORS_COMPARED = 1000

# Anchor and tag before a value that begins in the same line.
_PROPERTIES = re.compile(r"(?>[&!]\S*+[ \t]++){1,2}+(?=[^\s#])")
_MERGE = "<<"


class StopError(Exception):
    """The rest of the file cannot be looked at."""

    def __init__(self, problem: Diagnostic) -> None:
        self.problem = problem
        super().__init__(problem.detail)


class _Hole(Scalar):
    """Stands for a value that cannot be known."""

    __slots__ = ()


class Builder:
    """Puts one file's events together; `unread` are the places of values that it could not know.

    `anchors` says where names are marked, `unknown` where names are repeated that nothing marks.
    """

    def __init__(self, file: str, text: str) -> None:
        self.problems: list[Diagnostic] = []
        self.unread: set[Span] = set()
        self.anchors: dict[str, Span] = {}
        self.unknown: dict[Span, str] = {}
        self._root: Node | None = None
        self._file = file
        self._text = text
        self._mark: Any = None
        self._stack: list[OpenBranch] = []
        self._top: OpenBranch | None = None
        self._values = 0
        self._characters = 0
        self._anchors: dict[str, Node | None] = {}

    def build(self, events: Iterable[yaml.Event]) -> Node:
        """Read all events of one document; raise StopError where nothing more can be made of the file."""
        handlers: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentEndEvent: self._end_document,
        }
        for event in events:
            self._mark = event.start_mark
            handle = handlers.get(event.__class__)
            if handle is not None:
                handle(event)
        root = self._root
        if root is None or (root.value is None and not isinstance(root, _Hole)):
            raise StopError(source_problems.empty(Span(self._file, 1, 1)))
        return root

    def unknown_aliases(self) -> Problems:
        """Say what aliases without anchor may have meant, now that all anchors are known."""
        known = tuple(islice(self.anchors, MAX_ANCHORS_COMPARED))
        return tuple(
            source_problems.unknown_anchor(span, name, known, self.anchors.get(name))
            for span, name in self.unknown.items()
        )

    def _span(self) -> Span:
        return span_of(self._file, self._mark)

    def _tell(self, problem: Diagnostic) -> None:
        self.problems.append(problem)
        self._stop_at_too_many()

    def _stop_at_too_many(self) -> None:
        if len(self.problems) + len(self.unknown) == MAX_PROBLEMS:
            raise StopError(source_problems.too_many(self._span(), MAX_PROBLEMS))

    def _end_document(self, event: yaml.DocumentEndEvent) -> None:
        """Look at what comes after ourselves: the parser would read all directives there before it says anything."""
        mark: Any = event.end_mark
        index = source_syntax.next_content(self._text, mark.index)
        if index < len(self._text):
            place = place_after(self._file, self._text[:index])
            raise StopError(source_syntax.beyond_the_end(place, self._text, index))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        is_marked = event.anchor is not None or event.tag is not None
        mark = self._mark_after_properties(event) if is_marked else self._mark
        self._characters += len(text)
        top = self._top
        if top is not None and top.is_mapping and top.key is None:
            self._key(top, text, mark, is_merge=text == _MERGE and not event.style)
            node = Scalar(self._file, mark, text, text) if is_marked else None
        else:
            node = self._value(text, mark, is_plain=not event.style)
            self._put(node)
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _value(self, text: str, mark: Mark, *, is_plain: bool) -> Scalar:
        self._count_value()
        value = plain_value(text) if is_plain else text
        if value.__class__ is int and is_read_otherwise_elsewhere(text):
            self._tell(source_problems.read_otherwise_elsewhere(span_of(self._file, mark), text))
        return Scalar(self._file, mark, value, text)

    def _mark_after_properties(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> Mark:
        """Find the value itself, where its anchor or tag stands in the same line; note the one, refuse the other."""
        mark = self._mark
        found = _PROPERTIES.match(self._text, mark.index)
        length = found.end() - mark.index if found else 0
        own = OwnMark(mark.index + length, mark.line, mark.column + length)
        if event.anchor is not None:
            self.anchors[event.anchor] = self._span()
        if event.tag not in (None, "!"):
            self._tell(source_problems.tag(self._span(), str(event.tag)))
            key = self._top.key_mark if self._top is not None and self._top.is_mapping else None
            self.unread |= {span_of(self._file, mark) for mark in (own, key) if mark is not None}
        return own

    def _key(self, top: OpenBranch, text: str, mark: Mark, *, is_merge: bool = False) -> None:
        first = top.begin_merge(text, mark) if is_merge else top.begin(text, mark)
        if first is not None:
            self._tell(source_problems.written_twice(span_of(self._file, mark), span_of(self._file, first), text))

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        is_marked = event.anchor is not None or event.tag is not None
        mark = self._mark_after_properties(event) if is_marked else self._mark
        if len(self._stack) == MAX_DEPTH:
            raise StopError(self._too_deep())
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        is_mapping = event.__class__ is yaml.MappingStartEvent
        value: Any = {} if is_mapping else []
        children: Any = {} if is_mapping else []
        self._top = OpenBranch(mark, is_mapping, event.anchor, self._values, self._characters, value, children)
        self._stack.append(self._top)
        self._count_value()

    def _too_deep(self) -> Diagnostic:
        return source_problems.too_big(self._span(), f"Values are nested more than {MAX_DEPTH} deep.")

    def _end(self, event: yaml.CollectionEndEvent) -> None:  # noqa: ARG002 - handlers are called alike
        done = self._stack.pop()
        self._top = self._stack[-1] if self._stack else None
        node = done.close(self._file, self._values, self._characters)
        if done.anchor is not None:
            self._anchors[done.anchor] = node
        self._put(node)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = str(event.anchor)
        node = self._anchors.get(name) or self._unknown_value(name)
        if isinstance(node, Scalar):
            self._values += 1
            self._characters += len(node.written)
        else:
            self._values += node.values
            self._characters += node.characters
            if len(self._stack) + node.height > MAX_DEPTH:
                raise StopError(self._too_deep())
        self._stop_at_bounds()
        self._put(node)

    def _unknown_value(self, anchor: str) -> Node:
        if anchor in self._anchors:
            self._tell(source_problems.alias_to_itself(self._span(), anchor))
        else:
            self.unknown[self._span()] = anchor
            self._stop_at_too_many()
        self.unread.add(self._span())
        return _Hole(self._file, self._mark, None, "")

    def _count_value(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            self._stop_at_bounds()

    def _stop_at_bounds(self) -> None:
        """Stop before aliases of aliases fill the memory: what counts is the file with all of them written out."""
        if self._values > MAX_VALUES:
            detail = f"The file, with its aliases written out, holds more than {MAX_VALUES} values."
            raise StopError(source_problems.too_big(self._span(), detail))
        if self._characters > MAX_BYTES:
            detail = f"The file, with its aliases written out, is larger than {MAX_BYTES // 2**20} MiB."
            raise StopError(source_problems.too_big(self._span(), detail))

    def _put(self, node: Node) -> None:
        """Give a complete value to the innermost open list or mapping."""
        top = self._top
        if top is None:
            self._root = node
            return
        if not isinstance(node, Scalar) and node.height >= top.height:
            top.height = node.height + 1
        if top.waits_for_key:
            self._put_as_key(top, node)
        elif top.is_merging:
            self._merge(top, node)
        else:
            top.put(node)

    def _put_as_key(self, top: OpenBranch, node: Node) -> None:
        if isinstance(node, Scalar):
            self._key(top, node.written, self._mark)
            return
        span = span_of(self._file, node.mark)
        self._tell(source_problems.key_not_text(span))
        self.unread.add(span)
        self._key(top, "?", node.mark)

    def _merge(self, top: OpenBranch, node: Node) -> None:
        """Take in the keys of a mapping, or of several of which the first wins; those written out win over all."""
        top.key, top.is_merging = None, False
        for one in node.children if isinstance(node, ListNode) else (node,):
            if isinstance(one, MappingNode):
                top.merge(one)
                continue
            if not isinstance(one, _Hole):
                self._tell(source_problems.not_mergeable(span_of(self._file, top.key_mark or top.mark)))
            self.unread.add(self._span_of_top(top))

    def _span_of_top(self, top: OpenBranch) -> Span:
        """Give the place that stands for the innermost mapping: its own key, or where it begins."""
        parent = self._stack[-2] if len(self._stack) > 1 else None
        mark = parent.key_mark if parent is not None and parent.is_mapping else None
        return span_of(self._file, mark or top.mark)
