"""The small ports of the gate: logs, llama-servers, cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import TokenAnswer


class FakeStartLog:
    """Logs by unit; what is in `later` has been written when it was asked for the second time."""

    def __init__(self) -> None:
        self.written: dict[str, tuple[str, ...]] = {}
        self.later: dict[str, tuple[str, ...]] = {}

    def lines(self, unit: str, main_pid: int) -> tuple[str, ...]:
        found = self.written.get(unit, ())
        self.written[unit] = (*found, *self.later.pop(unit, ()))
        return found


class FakeLlamaServers:
    """Every server answers, but those in `mute`; `on_ask` is told of each question before it is answered."""

    def __init__(self, on_ask: Callable[[], None] = lambda: None) -> None:
        self.mute: dict[str, str] = {}
        self.asked: list[tuple[str, ModelKind]] = []
        self.on_ask = on_ask

    def ask_token(self, base_url: str, kind: ModelKind, timeout_s: float) -> TokenAnswer:
        self.on_ask()
        self.asked.append((base_url, kind))
        reason = self.mute.get(base_url)
        return TokenAnswer(is_good=reason is None, detail=reason or "")


class FakeCardMemory:
    """Bytes by UUID that any process holds; None where there is no NVML."""

    def __init__(self, held: Mapping[str, int] | None = None) -> None:
        self.held = held
        self.asked: list[int] = []

    def used_bytes(self, pid: int) -> Mapping[str, int] | None:
        self.asked.append(pid)
        return self.held
