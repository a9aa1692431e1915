"""Choose the upstream for a request (design document, section 5.1)."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutingTable, Upstream


@dataclass(frozen=True, slots=True)
class Query:
    """What a request says about the model it wants; a named model or persona outranks the purpose."""

    kind: ModelKind = ModelKind.CHAT
    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    min_context_tokens: int | None = None
    cost_tier: CostTier | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The upstream to call, and why it was chosen."""

    model: RoutedModel
    upstream: Upstream
    persona: RoutedPersona | None
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No upstream can serve it; `is_temporary` when a healthy one would."""

    problem: Diagnostic
    is_temporary: bool


Decision = Selected | Refused


def select(table: RoutingTable, query: Query, *, profile: str, ready: Set[str]) -> Decision:
    """Choose among the ready instances (by instance name) of the active profile."""
    raise AssertionError((table, query, profile, ready))
