"""What comes of the facts if they stay as they are."""

from __future__ import annotations

from kloros_infra.ir.card_facts import Now, TopologyFacts
from kloros_infra.topology.decide import decide
from kloros_infra.topology.state import TopologyState


def forecast(state: TopologyState, facts: TopologyFacts, now: Now) -> tuple[str, float] | None:
    """Say which profile follows and when, on the monotonic clock; None where none does."""
    state, decision = decide(state, facts, now)
    active = decision.profile
    while decision.held_until_s is not None:
        now = now.at(decision.held_until_s)
        state, decision = decide(state, facts, now)
        if decision.profile != active:
            return decision.profile, now.monotonic_s
    return None
