"""What is wrong with the facts: policy that cannot be understood, and a pin on a profile that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from kloros_infra.diagnostics import Diagnostic, Problems, Severity, in_order
from kloros_infra.ir.card_facts import PolicySource, TopologyFacts
from kloros_infra.topology.policy import covers


def problems_of(facts: TopologyFacts, understood: Sequence[PolicySource]) -> Problems:
    """Collect what the sources of policy have told, and what only shows beside the profiles.

    `understood` is what each source said when it was last understood.
    """
    found = [problem for source in facts.policy.sources for problem in _told(source, understood)]
    names = [rule.name for rule in facts.profiles]
    if facts.policy.pin is not None and facts.policy.pin not in names:
        found.append(_unknown_pin(facts.policy.pin, names))
    return in_order(found)


def _told(source: PolicySource, understood: Iterable[PolicySource]) -> Iterator[Diagnostic]:
    """Say of a source that cannot be understood what follows from that."""
    if source.lockouts is not None:
        yield from source.problems
        return
    is_remembered = any(one.lockouts and covers(source, one.name) for one in understood)
    follows = "What it said last stays in force." if is_remembered else "Nothing is locked out by it so far."
    yield from (replace(problem, detail=f"{problem.detail} {follows}") for problem in source.problems)


def _unknown_pin(pin: str, names: list[str]) -> Diagnostic:
    close = get_close_matches(pin, names, 1)
    return Diagnostic(
        code="KI904",
        summary="Pinned profile is not there",
        detail=f"The profile {pin!r} is pinned, and there is none of that name: the pin has no effect.",
        hint=f"Did you mean '{close[0]}'?" if close else f"The profiles are {', '.join(names)}.",
        severity=Severity.WARNING,
    )
