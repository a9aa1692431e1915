"""Cards in memory: what is in use of them is what a test says."""

from __future__ import annotations

from kloros_infra.ir.seen_card import SeenCard


class FakeCards:
    """Implements `daemon.ports.CardMemory`; `readings` are given one after the other, the last again and again."""

    def __init__(self, *readings: tuple[SeenCard, ...] | None) -> None:
        self.readings = list(readings)
        self.asked = 0

    def read(self) -> tuple[SeenCard, ...] | None:
        self.asked += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def family(self, pid: int) -> frozenset[int]:
        return frozenset({pid})
