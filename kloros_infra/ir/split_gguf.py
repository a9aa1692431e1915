"""Split GGUFs: one model in several GGUF files, `<prefix>-00001-of-00003.gguf`.

llama-server is given the first file and finds the others beside it by their names (llama.cpp, src/llama.cpp,
llama_split_path; src/llama-model-loader.cpp).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SplitName:
    """A path or URL of one part; `number` counts from 1."""

    prefix: str
    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.prefix}-{self.number:05d}-of-{self.count:05d}.gguf"

    @property
    def parts(self) -> tuple[str, ...]:
        """Name all parts of the set, in order."""
        return tuple(str(SplitName(self.prefix, number, self.count)) for number in range(1, self.count + 1))


def split_name(name: str) -> SplitName | None:
    """Read a path or URL as one part's; None where it is none."""
    found = _NAME.fullmatch(name)
    if found is None or not 1 <= int(found[2]) <= int(found[3]):
        return None
    return SplitName(found[1], int(found[2]), int(found[3]))


def split_set(names: Iterable[str]) -> tuple[str, ...] | None:
    """Name all parts of the set that one of its parts, or several, stand for; None where they are of no one set."""
    found = {(one.prefix, one.count) if (one := split_name(name)) else None for name in names}
    if len(found) != 1:
        return None
    (only,) = found
    return SplitName(only[0], 1, only[1]).parts if only else None


def stored_names(first: str) -> tuple[str, ...]:
    """Name the files that belong to a version's first one: itself, or all parts of its set."""
    return split_set((first,)) or (first,)


def set_sha256(sha256s: Iterable[str]) -> str:
    """Give one sha256 to a set whose parts are never joined: that of its parts' sha256s, one a line."""
    return hashlib.sha256("".join(f"{one}\n" for one in sha256s).encode()).hexdigest()
