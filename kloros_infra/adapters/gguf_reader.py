"""GGUF headers, byte by byte (ggml/docs/gguf.md; ggml/src/gguf.cpp): a file's beginning → its keys and tensor table.

Only as much is fetched as the header is long, and nothing that it claims is believed before it is there: a count that
cannot fit in the rest of the file ends the reading before anything is made of it. The gguf package's reader wants the
whole file on disk and takes seconds for a vocabulary.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.weights_source import RangedFile

# The largest header seen (262 144 words with merges) has 16 MB.
MAX_HEADER_BYTES = 64 * 2**20
FIRST_FETCH_BYTES = 2**20
MOST_FETCH_BYTES = 8 * 2**20

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# ggml.h: GGML_MAX_NAME, GGML_MAX_DIMS.
_MOST_NAME_BYTES = 63
_MOST_DIMENSIONS = 4
# Arrays that tell something have a value per layer at most; vocabularies are only counted.
_MOST_KEPT = 10_000
# The largest models have some thousands of tensors, and a header some dozens of keys. A text takes 8 bytes at least, so
# that a header could hold millions of them: the largest vocabularies have a quarter of a million.
_MOST_ROWS = 100_000
_MOST_KEYS = 10_000
_MOST_TEXTS = 4_000_000
_DEFAULT_ALIGNMENT = 32

# enum gguf_type.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LENGTH = struct.Struct("<Q")
_STRING = 8
_ARRAY = 9
# The least that a key with its value, and a row of the tensor table, can take.
_LEAST_KEY_BYTES = 13
_LEAST_ROW_BYTES = 24

Number = int | float | bool


class MalformedError(ValueError):
    """The bytes are no whole GGUF."""


class UnsupportedError(ValueError):
    """The bytes are a GGUF that llama.cpp does not read, or not on this machine."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array's length, and its numbers unless they are many; texts are only counted."""

    length: int
    numbers: tuple[Number, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the tensor table, as it stands there."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int


@dataclass(frozen=True, slots=True)
class RawHeader:
    """What a header says, not yet understood; tensors begin at `data_start`."""

    values: Mapping[str, str | Number | Array]
    rows: tuple[Row, ...]
    data_start: int


def read_raw(file: RangedFile) -> RawHeader:
    """Read a file's header; raise MalformedError or UnsupportedError where there is none that can be used."""
    stream = _Stream(file)
    if stream.take(4) != MAGIC:
        raise MalformedError("it does not begin with GGUF")
    _check_version(stream.number("I"))
    row_count, value_count = stream.number("Q"), stream.number("Q")
    stream.expect(row_count * _LEAST_ROW_BYTES + value_count * _LEAST_KEY_BYTES)
    if row_count > _MOST_ROWS or value_count > _MOST_KEYS:
        raise MalformedError(f"it claims {row_count} tensors and {value_count} keys")
    values: dict[str, str | Number | Array] = {}
    for _ in range(value_count):
        key = stream.text()
        if key in values:
            raise MalformedError(f"it says {key} twice")
        values[key] = _value(stream)
    rows = tuple(_row(stream) for _ in range(row_count))
    alignment = _alignment(values)
    return RawHeader(values, rows, -(-stream.position // alignment) * alignment)


def _check_version(version: int) -> None:
    # A big-endian 3 reads as 0x03000000.
    if version and not version & 0xFFFF:
        raise UnsupportedError("it is big-endian")
    if version not in VERSIONS:
        raise UnsupportedError(f"it is of version {version}; llama.cpp reads 2 and 3")


def _value(stream: _Stream) -> str | Number | Array:
    kind = stream.number("I")
    if kind == _STRING:
        return stream.text(errors="replace")
    if kind == _ARRAY:
        return _array(stream)
    return stream.one(_format(kind))


def _array(stream: _Stream) -> Array:
    kind, length = stream.number("I"), stream.number("Q")
    if kind == _STRING:
        stream.skip_texts(length)
        return Array(length)
    format_ = _format(kind)
    if length > _MOST_KEPT:
        stream.skip(length * struct.calcsize(format_))
        return Array(length)
    return Array(length, stream.many(format_, length))


def _format(kind: int) -> str:
    """Give struct's letter for a number's type; arrays of arrays have none, as in llama.cpp."""
    if kind not in _NUMBERS:
        raise MalformedError(f"it has a value of type {kind}")
    return _NUMBERS[kind]


def _row(stream: _Stream) -> Row:
    name = stream.text(most_bytes=_MOST_NAME_BYTES)
    dimensions = stream.number("I")
    if dimensions > _MOST_DIMENSIONS:
        raise MalformedError(f"tensor {name} has {dimensions} dimensions")
    shape = tuple(int(extent) for extent in stream.many("Q", dimensions))
    return Row(name, shape or (1,), stream.number("I"), stream.number("Q"))


def _alignment(values: Mapping[str, str | Number | Array]) -> int:
    alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise MalformedError("its alignment is not a power of two")
    return alignment


class _Stream:
    """A file's beginning, fetched in growing pieces as far as it is asked for."""

    def __init__(self, file: RangedFile) -> None:
        self.position = 0
        self._texts = 0
        self._file = file
        self._held = bytearray()

    def expect(self, length: int) -> None:
        """Refuse what cannot be there: more bytes than the file has left, or than any header."""
        if self.position + length > self._file.size_bytes:
            raise MalformedError("it ends too early")
        if self.position + length > MAX_HEADER_BYTES:
            raise MalformedError("its header does not end")

    def take(self, length: int) -> bytes:
        """Give the next bytes."""
        start = self._advance(length)
        return bytes(self._held[start : start + length])

    def skip(self, length: int) -> None:
        """Go past bytes."""
        self._advance(length)

    def number(self, format_: str) -> int:
        """Read a whole number."""
        return int(self.one(format_))

    def one(self, format_: str) -> Number:
        """Read one number."""
        return self.many(format_, 1)[0]

    def many(self, format_: str, count: int) -> tuple[Number, ...]:
        """Read numbers of one type."""
        start = self._advance(count * struct.calcsize(format_))
        return struct.unpack_from(f"<{count}{format_}", self._held, start)

    def text(self, *, most_bytes: int = MAX_HEADER_BYTES, errors: str = "strict") -> str:
        """Read a text behind its length."""
        length = self.number("Q")
        if length > most_bytes:
            raise MalformedError("a name or text in it is too long")
        return self.take(length).decode("utf-8", errors)

    def skip_texts(self, count: int) -> None:
        """Go past texts."""
        self.expect(count * _LENGTH.size)
        self._texts += count
        if self._texts > _MOST_TEXTS:
            raise MalformedError(f"it claims {self._texts} texts")
        # Vocabularies are most of a header: no calls here for what is there already.
        held, place, length_at = self._held, self.position, _LENGTH.unpack_from
        for _ in range(count):
            if place + _LENGTH.size > len(held):
                self._go_to(place + _LENGTH.size)
            place += _LENGTH.size + length_at(held, place)[0]
        self._go_to(place)

    def _go_to(self, place: int) -> None:
        self._advance(place - self.position)

    def _advance(self, length: int) -> int:
        """Have the next bytes at hand, and say where they begin."""
        start, end = self.position, self.position + length
        if end > len(self._held):
            self.expect(length)
            self._fetch(end)
        self.position = end
        return start

    def _fetch(self, end: int) -> None:
        while len(self._held) < end:
            held = len(self._held)
            length = min(max(FIRST_FETCH_BYTES, held), MOST_FETCH_BYTES, self._file.size_bytes - held)
            piece = self._file.read(held, length)
            if not piece:
                raise MalformedError("it ends too early")
            self._held += piece
