"""YAML text → plain values, and the place of each in the text.

Strings, integers, floats, booleans, null, lists and mappings with text keys: the YAML 1.2 core
schema (https://yaml.org/spec/1.2.2/#103-core-schema), so that `no` and `12:30:45` stay text. What
makes YAML surprising (anchors, merge keys, tags, several documents) is refused by name.

The events come from PyYAML's pure parser, which keeps its own stack: libyaml's composer overflows
the C stack on a few hundred kilobytes of `[`. Nothing here recurses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from kloros_infra.compiler import source_problems
from kloros_infra.compiler.printable import printable
from kloros_infra.diagnostics import Diagnostic, Problems, Span

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_EVENTS = 100_000

Address = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands; `written` is a scalar's text, None for lists and mappings."""

    span: Span
    key_span: Span | None
    written: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A file's plain values; asked for an address that is not in the file, it answers for the nearest part that is."""

    file: str
    tree: Any
    places: Mapping[Address, Place]

    def span(self, address: Address) -> Span:
        """Find a scalar, or the key that holds a list or mapping."""
        place = self._nearest(address)
        return place.span if place.written is not None else place.key_span or place.span

    def key_span(self, address: Address) -> Span:
        """Find the key that holds a value, or the value where it is an item of a list."""
        place = self._nearest(address)
        return place.key_span or place.span

    def written(self, address: Address) -> str | None:
        """Give a scalar's text as it stands in the file."""
        place = self.places.get(address)
        return place.written if place else None

    def path(self, address: Address) -> str:
        """Name an address for people: items of lists by their id where they have one."""
        words: list[str] = []
        value = self.tree
        for part in address:
            value = _child(value, part)
            words.append(printable(_name(value, part)))
        return ".".join(words)

    def _nearest(self, address: Address) -> Place:
        while address not in self.places:
            address = address[:-1]
        return self.places[address]


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


def decode(data: bytes, *, file: str) -> tuple[str | None, Problems]:
    """Decode a file's bytes as UTF-8."""
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        return None, (source_problems.bad_byte(file, before, data[error.start]),)


def read(text: str, *, file: str) -> tuple[Source | None, Problems]:
    """Read a YAML text as plain values; None where they would not be what the writer meant."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return None, (source_problems.too_big(Span(file, 1, 1), f"The file is larger than {MAX_BYTES // 2**20} MiB."),)
    builder = _Builder(file)
    try:
        builder.build(yaml.parse(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OverflowError, _StopError) as error:
        return None, (*builder.problems, _why_stopped(error, text, builder.last))
    if builder.is_refused:
        return None, tuple(builder.problems)
    return Source(file, builder.root, builder.places), tuple(builder.problems)


class _StopError(Exception):
    """The rest of the file cannot be looked at."""

    def __init__(self, problem: Diagnostic) -> None:
        self.problem = problem
        super().__init__(problem.detail)


def _why_stopped(error: Exception, text: str, last: Span) -> Diagnostic:
    match error:
        case _StopError():
            return error.problem
        case yaml.reader.ReaderError():
            # `character` is a number where PyYAML was given text; types-PyYAML knows only the case of bytes.
            return source_problems.bad_character(last.file, text[: error.position], int(error.character))
        case yaml.MarkedYAMLError():
            return source_problems.syntax(last.file, error)
        case _:
            # PyYAML turns \U escapes and %YAML versions into numbers without checking their range.
            return source_problems.number_out_of_range(last)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; `key` is the mapping key that waits for its value."""

    address: Address
    values: list[Any] | dict[str, Any]
    key: str | None = None
    key_span: Span | None = None
    key_spans: dict[str, Span] = field(default_factory=dict)


class _Builder:
    """Puts events together; holds the open lists and mappings itself instead of recursing."""

    def __init__(self, file: str) -> None:
        self.root: Any = None
        self.places: dict[Address, Place] = {}
        self.problems: list[Diagnostic] = []
        self.is_refused = False
        self.last = Span(file, 1, 1)
        self._file = file
        self._open: list[_Open] = []
        self._documents = 0

    def build(self, events: Iterable[yaml.Event]) -> None:
        for count, event in enumerate(events):
            self.last = self._span(event)
            if count == MAX_EVENTS:
                raise _StopError(source_problems.too_big(self.last, "The file holds too many values."))
            match event:
                case yaml.DocumentStartEvent():
                    self._start_document()
                case yaml.ScalarEvent():
                    self._refuse_decorations(event)
                    self._scalar(event.value, is_plain=event.style is None)
                case yaml.SequenceStartEvent():
                    self._refuse_decorations(event)
                    self._start([])
                case yaml.MappingStartEvent():
                    self._refuse_decorations(event)
                    self._start({})
                case yaml.CollectionEndEvent():
                    self._open.pop()
                case yaml.AliasEvent():
                    self._refuse(source_problems.alias(self.last, str(event.anchor)))
                    self._scalar("", is_plain=True)
        if self.root is None and not self.is_refused:
            raise _StopError(source_problems.empty(self.last))

    def _span(self, event: yaml.Event) -> Span:
        mark: Any = event.start_mark  # the parser always sets it
        return Span(self._file, mark.line + 1, mark.column + 1)

    def _start_document(self) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _StopError(source_problems.second_document(self.last))

    def _refuse_decorations(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._refuse(source_problems.anchor(self.last, event.anchor))
        if event.tag is not None:
            self._refuse(source_problems.tag(self.last, event.tag))

    def _refuse(self, problem: Diagnostic) -> None:
        self.is_refused = True
        self.problems.append(problem)

    def _scalar(self, text: str, *, is_plain: bool) -> None:
        if re.search(r"[\ud800-\udfff]", text):
            self._refuse(source_problems.lone_surrogate(self.last))
        parent = self._open[-1] if self._open else None
        if parent and isinstance(parent.values, dict) and parent.key is None:
            self._key(parent, text, is_plain=is_plain)
        else:
            self._add(plain_value(text) if is_plain else text, text)

    def _key(self, parent: _Open, text: str, *, is_plain: bool) -> None:
        if is_plain and text == "<<":
            self._refuse(source_problems.merge_key(self.last))
        first = parent.key_spans.setdefault(text, self.last)
        if first is not self.last:
            self.problems.append(source_problems.written_twice(self.last, first, text))
        parent.key, parent.key_span = text, self.last

    def _start(self, values: list[Any] | dict[str, Any]) -> None:
        address = self._add(values, None)
        if len(self._open) == MAX_DEPTH:
            raise _StopError(source_problems.too_big(self.last, f"Values are nested more than {MAX_DEPTH} deep."))
        self._open.append(_Open(address, values))

    def _add(self, value: Any, written: str | None) -> Address:
        """Give a value to the innermost open list or mapping; return its address."""
        parent = self._open[-1] if self._open else None
        address: Address
        key_span = None
        if parent is None:
            self.root, address = value, ()
        elif isinstance(parent.values, list):
            address = (*parent.address, len(parent.values))
            parent.values.append(value)
        elif parent.key is None:
            self._refuse(source_problems.key_not_text(self.last))
            parent.key, parent.key_span = "?", self.last
            return (*parent.address, "?")
        else:
            address, key_span = (*parent.address, parent.key), parent.key_span
            parent.values[parent.key] = value
            parent.key = None
        self.places[address] = Place(self.last, key_span, written)
        return address


_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Python refuses to read decimal integers of more than 4300 digits; no setting has more than 20.
_NUMBERS: tuple[tuple[str, Callable[[str], int | float]], ...] = (
    (r"[-+]?[0-9]{1,20}", int),
    (r"0o[0-7]{1,20}", lambda text: int(text[2:], 8)),
    (r"0x[0-9a-fA-F]{1,20}", lambda text: int(text[2:], 16)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda text: float(text.replace(".", ""))),
)


def plain_value(text: str) -> str | int | float | bool | None:
    """Read an unquoted scalar by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    read_number = next((number for pattern, number in _NUMBERS if re.fullmatch(pattern, text)), None)
    return read_number(text) if read_number else text
