"""Generations in dictionaries, held to the same contract tests as the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.generation import History


def ignore(call: str) -> None:
    """Watch nothing."""


class FakeGenerations:
    """Generations of an imaginary root; `watch` is called around everything that changes them."""

    def __init__(self, watch: Callable[[str], None] = ignore) -> None:
        self.kept: dict[int, dict[str, Artifact]] = {}
        self.current: int | None = None
        self.last_good: int | None = None
        self.booted: int | None = None
        self._watch = watch

    def history(self) -> History:
        return History(tuple(sorted(self.kept)), self.current, self.last_good, self.booted)

    def read(self, number: int, name: str) -> Artifact | None:
        return self.kept.get(number, {}).get(name)

    def stage(self, number: int, files: Mapping[str, Artifact]) -> None:
        assert number != self.current
        self._watch(f"before stage {number}")
        self.kept[number] = dict(files)
        self._watch(f"after stage {number}")

    def flip(self, number: int | None) -> None:
        assert number is None or number in self.kept
        self._watch(f"before flip {number}")
        self.current = number
        self._watch(f"after flip {number}")

    def mark_last_good(self, number: int | None) -> None:
        self._watch(f"before mark {number}")
        self.last_good = number
        self._watch(f"after mark {number}")

    def remove(self, number: int) -> None:
        assert number != self.current
        self._watch(f"before remove generation {number}")
        self.kept.pop(number, None)
        self._watch(f"after remove generation {number}")

    def sweep(self) -> None:
        """Nothing is ever half made here."""
