"""What the gate needs of the outside world beside `executor.ports`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import TokenAnswer


class StartLog(Protocol):
    """What a unit's present process has written."""

    def lines(self, unit: str, main_pid: int) -> tuple[str, ...]:
        """Give the lines of this process and of no earlier one, as far back as they are kept."""
        ...


class LlamaServers(Protocol):
    """Puts the smallest request to a llama-server that its kind of model can answer."""

    def ask_token(self, base_url: str, kind: ModelKind, timeout_s: float) -> TokenAnswer: ...


class CardMemory(Protocol):
    """Says what a process holds on the machine's cards."""

    def used_bytes(self, pid: int) -> Mapping[str, int] | None:
        """Give the bytes by the cards' UUIDs; None where nobody can tell."""
        ...
