"""What a request asks for, as far as choosing a model goes, and what is said where none is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import CostTier, ModelKind


class Query(NamedTuple):
    """What a request says about the model it wants; a named model or persona outranks the purpose.

    No kind stands for any. `by_mark` has the words for the mark that gave the purpose, None where the request named
    it; `max_latency_s` is the time to the first token. A tuple, because one is made and looked up for every request.
    """

    kind: ModelKind | None = ModelKind.CHAT
    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    min_context_tokens: int | None = None
    cost_tier: CostTier | None = None
    language: str | None = None
    max_latency_s: float | None = None
    by_mark: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No upstream can serve it; `is_temporary` when the same request may be served later."""

    problem: Diagnostic
    is_temporary: bool
