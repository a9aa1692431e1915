"""A cache of compiles in memory, which tells what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class MemoryCache:
    """Keeps the last result of each slot."""

    slots: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    def read(self, slot: str, digest: str) -> bytes | None:
        """Give what a slot holds if it was kept under this digest."""
        kept, data = self.slots.get(slot, ("", b""))
        if kept != digest:
            return None
        self.found.append(slot)
        return data

    def write(self, slot: str, digest: str, data: bytes) -> None:
        """Keep data in a slot."""
        self.written.append(slot)
        self.slots[slot] = (digest, data)
