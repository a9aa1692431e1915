"""What a compile asks of a cache, and the digests that it asks by."""

from __future__ import annotations

import hashlib
from typing import Protocol


class CompileCache(Protocol):
    """Keeps one result in each slot, for the same code alone; it may forget at any time."""

    def read(self, slot: str, digest: str) -> bytes | None:
        """Give what a slot holds, byte by byte, if it was kept under this digest."""
        ...

    def write(self, slot: str, digest: str, data: bytes) -> None:
        """Keep data in place of what a slot holds; it is no problem where that cannot be done."""
        ...


def digest_of(*texts: str) -> str:
    """Digest texts, each with its length, so that other texts never look the same when they are put together."""
    whole = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()
