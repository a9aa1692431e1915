"""Show a whole decision: which candidates, their scores and targets, what is against each, and the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kloros_infra.ir.routing import RoutedClient, RoutingTable
from kloros_infra.router.candidates import OBSTACLE_WORDS, Candidate, Candidates, candidates, considered
from kloros_infra.router.effects import Target
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import PLAIN, Ask, Chosen, Standing, choose

VERSION = 1


class Situation(NamedTuple):
    """What a decision depends on beside table and query."""

    profile: str
    standing: Callable[[Target], Standing]
    client: RoutedClient | None = None
    ask: Ask = PLAIN


class Explanation(NamedTuple):
    """A decision with all that led to it; `found` is None where no model could serve whatever runs."""

    profile: str
    client: str | None
    found: Candidates | None
    rows: tuple[tuple[Candidate, tuple[Standing, ...]], ...]
    outcome: Chosen | Refused


def explain(table: RoutingTable, query: Query, situation: Situation) -> Explanation:
    """Decide as the router does, and keep what it looked at."""
    profile, client = situation.profile, situation.client
    found = candidates(table, query, profile=profile, client=client)
    rows = tuple(
        (candidate, tuple(map(situation.standing, candidate.targets)))
        for candidate in considered(table, query, profile=profile, client=client)
    )
    name = client.name if client else None
    if isinstance(found, Refused):
        return Explanation(profile, name, None, rows, found)
    return Explanation(profile, name, found, rows, choose(found, situation.standing, situation.ask))


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """Write a decision for people."""
    found = explanation.found
    about = f"Profile '{explanation.profile}'"
    about += f", client '{explanation.client}'" if explanation.client else ""
    if found is not None:
        about += f", priority {found.priority}"
        about += f", first token within {found.max_latency_s:g} s" if found.max_latency_s is not None else ""
        about += f", by {found.words}"
    yield f"{about}."
    for candidate, standings in explanation.rows:
        yield from _candidate_lines(candidate, standings)
    outcome = explanation.outcome
    if isinstance(outcome, Chosen):
        yield f"Goes to {outcome.target.name}: {outcome.reason}"
        return
    until = "for now" if outcome.is_temporary else "until something changes"
    yield f"Refused {until}: {outcome.problem.code} {outcome.problem.summary}. {outcome.problem.detail}"
    yield f"  {outcome.problem.hint}"


def explanation_data(explanation: Explanation) -> dict[str, Any]:
    """Give a decision for programs."""
    found, outcome = explanation.found, explanation.outcome
    return {
        "version": VERSION,
        "profile": explanation.profile,
        "client": explanation.client,
        "purpose": found.purpose if found else None,
        "persona": found.persona.id if found and found.persona else None,
        "meaning": found.words if found else None,
        "priority": str(found.priority) if found else None,
        "max_latency_s": found.max_latency_s if found else None,
        "candidates": [_candidate_data(candidate, standings) for candidate, standings in explanation.rows],
        "chosen": _chosen_data(outcome) if isinstance(outcome, Chosen) else None,
        "refused": _refused_data(outcome) if isinstance(outcome, Refused) else None,
    }


def _candidate_lines(candidate: Candidate, standings: tuple[Standing, ...]) -> Iterator[str]:
    against = f": {OBSTACLE_WORDS[candidate.obstacle]}" if candidate.obstacle else ""
    yield f"{candidate.place}. {candidate.model.id}{against}"
    if candidate.score is not None:
        specialist, context, cost = candidate.score
        yield f"   score {candidate.score.total:.1f}: specialist {specialist}, context {context:.1f}, cost {cost}"
    for target, standing in zip(candidate.targets, standings, strict=True):
        yield f"   {target.name} at {target.address}:{target.port}, {_standing_text(standing)}"


def _standing_text(standing: Standing) -> str:
    text = standing.state
    text += f", {standing.in_flight} of {standing.limit} at work" if standing.in_flight else ""
    text += f", {standing.queued} waiting" if standing.queued else ""
    text += f", {standing.wait_s:.1f} s to wait" if standing.wait_s else ""
    return text + (f": {standing.why_not}" if standing.why_not else "")


def _candidate_data(candidate: Candidate, standings: tuple[Standing, ...]) -> dict[str, Any]:
    score = candidate.score
    return {
        "place": candidate.place,
        "model": candidate.model.id,
        "obstacle": OBSTACLE_WORDS[candidate.obstacle] if candidate.obstacle else None,
        "score": {**score._asdict(), "total": score.total} if score else None,
        "targets": [
            {
                **standing._asdict(),
                "address": target.address,
                "port": target.port,
                "is_local": target.is_local,
                "context_tokens": target.context_tokens,
            }
            for target, standing in zip(candidate.targets, standings, strict=True)
        ],
    }


def _chosen_data(chosen: Chosen) -> dict[str, Any]:
    return {"model": chosen.candidate.model.id, "target": chosen.target.name, "reason": chosen.reason}


def _refused_data(refused: Refused) -> dict[str, Any]:
    problem = refused.problem
    return {
        "code": problem.code,
        "summary": problem.summary,
        "detail": problem.detail,
        "hint": problem.hint,
        "is_temporary": refused.is_temporary,
    }
