"""What a started instance must show, once it is ready, before requests are sent to it."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.placement import Placement


@dataclass(frozen=True, slots=True)
class InstanceGate:
    """One instance's checks beside readiness: loaded as placed, and able to work.

    `base_url` is where its server listens; `card_uuids` pairs llama.cpp's devices with the cards behind them, as far
    as their UUIDs are known.
    """

    base_url: str
    kind: ModelKind
    placement: Placement
    token_timeout_s: float
    card_uuids: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What became of the smallest request; `detail` says in what it fell short."""

    is_good: bool
    detail: str = ""
