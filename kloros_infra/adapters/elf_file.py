"""What an ELF file says of itself: its sections, and the libraries that it asks the loader for (elf(5))."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN = 2, 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<qQ")
_NEEDED, _RPATH, _RUNPATH = 1, 15, 29
_NO_BITS = 8
LONGEST_NAME = 4096


class NotElfError(ValueError):
    """The file is no ELF file of a 64-bit little-endian machine, or is damaged."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file by its name."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ElfFile:
    """An open file and its sections."""

    data: mmap.mmap
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """Find a section by its name."""
        return next((one for one in self.sections if one.name == name), None)

    def needed(self) -> tuple[str, ...]:
        """Name the libraries that it is linked with."""
        return self._strings(_NEEDED)

    def search_paths(self) -> tuple[str, ...]:
        """Name the folders that it has the loader look into (ld.so(8))."""
        return tuple(path for text in self._strings(_RUNPATH, _RPATH) for path in text.split(":") if path)

    def _strings(self, *tags: int) -> tuple[str, ...]:
        dynamic, names = self.section(".dynamic"), self.section(".dynstr")
        if dynamic is None or names is None:
            return ()
        entries = _DYNAMIC.iter_unpack(self.data[dynamic.offset : dynamic.offset + dynamic.size // 16 * 16])
        return tuple(_text(self.data, names.offset + value) for tag, value in entries if tag in tags)


@contextmanager
def opened_elf(file: Path) -> Iterator[ElfFile]:
    """Open a file for as long as it is looked at; raise NotElfError for any other, OSError where it cannot be read."""
    with file.open("rb") as stream:
        if stream.read(4) != _MAGIC:
            raise NotElfError("it is no program of this kind of machine")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                yield ElfFile(data, tuple(_sections(data)))
            except (struct.error, IndexError, OverflowError) as error:
                raise NotElfError("it is damaged") from error


def _sections(data: mmap.mmap) -> Iterator[Section]:
    ident, _, _, _, _, _, offset, _, _, _, _, size, count, names_at = _HEADER.unpack_from(data)
    if ident[4] != _CLASS_64 or ident[5] != _LITTLE_ENDIAN:
        raise NotElfError("it is for another kind of machine")
    headers = [_SECTION.unpack_from(data, offset + index * size) for index in range(count)]
    names = headers[names_at][4] if headers else 0
    for name, kind, _, _, start, length, *_ in headers:
        yield Section(_text(data, names + name), start, 0 if kind == _NO_BITS else length)


def _text(data: mmap.mmap, start: int) -> str:
    end = data.find(b"\0", start, start + LONGEST_NAME)
    if start >= len(data) or end < 0:
        raise NotElfError("it is damaged")
    return data[start:end].decode(errors="replace")
