"""Choose the target for a request among its candidates, by how they stand now (design document, section 5.1).

A candidate that comes first serves, if need be after its start; one after it only where it cannot. Nothing here is
random and nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from kloros_infra.router import refusals
from kloros_infra.router.candidates import OBSTACLE_WORDS, Candidate, Candidates, reason
from kloros_infra.router.effects import Target
from kloros_infra.router.query import Refused
from kloros_infra.router.tokens import cannot_fit

TOO_LONG = "prompt too long"
TOO_SLOW = "too slow now"
LEAST_LATENCY_S = 0.001
"""Nobody can ask for less: what is to be done in no time has all targets ranked by their speed."""


class Standing(NamedTuple):
    """How a target stands now.

    `is_waiting`: a request would have to wait there, for its start or for a free slot; one that can be started is not.
    `why_not`: why it cannot serve at all, None where it can; `is_final` where time alone mends nothing. `wait_s` is the
    time until a request could begin, and is looked at only where a latency is asked for.
    """

    target: str
    state: str
    is_waiting: bool = False
    why_not: str | None = None
    is_final: bool = False
    in_flight: int = 0
    limit: int = 1
    queued: int = 0
    wait_s: float = 0.0
    prefill_tokens_per_s: float | None = None


class Chosen(NamedTuple):
    """Where a request goes, and why."""

    candidate: Candidate
    target: Target
    reason: str


class Ask(NamedTuple):
    """What of a request bears on the choice beside its query: its length, its session, where it was tried already."""

    tokens: int = 0
    session_target: str | None = None
    tried: Set[str] = frozenset()


PLAIN = Ask()


class _Look(NamedTuple):
    """A target as it stands for one request; the least `rank` goes first, None where it cannot serve.

    `why` says what speaks against it: a prompt that is likely too long, or a likely wait that is.
    """

    candidate: Candidate
    target: Target
    rank: tuple[bool, float, bool, int, bool, int] | None
    why: str = ""
    is_final: bool = False


def choose(found: Candidates, standing: Callable[[Target], Standing], ask: Ask = PLAIN) -> Chosen | Refused:
    """Choose a target: untried ones first, then the session's, then by candidate, then one without a wait.

    Lengths and times are estimates: a target that is likely too small or too slow is chosen where no other can serve.
    """
    first = found.choices[0]
    target = first.targets[0]
    if ask.session_target in (None, target.name) and not ask.tried and found.max_latency_s is None:
        now = standing(target)
        # What is most usual is decided at one look.
        if now.why_not is None and not now.is_waiting and ask.tokens < target.context_tokens:
            return Chosen(first, target, first.reason)
    looks = [
        _look(candidate, index, standing(candidate.targets[index]), ask, found.max_latency_s)
        for candidate in found.choices
        for index in range(len(candidate.targets))
    ]
    ranked = [(look.rank, look) for look in looks if look.rank is not None]
    if not ranked:
        return _refused(looks, ask)
    _, best = min(ranked, key=lambda one: one[0])
    return Chosen(best.candidate, best.target, _reason(found, looks, best, ask))


def _look(candidate: Candidate, index: int, now: Standing, ask: Ask, max_latency_s: float | None) -> _Look:
    target = candidate.targets[index]
    if now.why_not is not None:
        return _Look(candidate, target, None, now.why_not, now.is_final)
    length, lateness = _length(target, ask.tokens), _lateness(now, ask.tokens, max_latency_s)
    if target.context_tokens and cannot_fit(ask.tokens, target.context_tokens):
        return _Look(candidate, target, None, TOO_LONG, is_final=True)
    strain = max(length, lateness, 1.0)
    is_elsewhere = ask.session_target is not None and target.name != ask.session_target
    rank = (target.name in ask.tried, strain, is_elsewhere, candidate.place, now.is_waiting, index)
    return _Look(candidate, target, rank, (TOO_SLOW if lateness > length else TOO_LONG) if strain > 1 else "")


def _length(target: Target, tokens: int) -> float:
    """Give the likely length of a prompt as a multiple of what fits, with room for the first token of the answer."""
    return (tokens + 1) / target.context_tokens if target.context_tokens else 0.0


def _lateness(now: Standing, tokens: int, max_latency_s: float | None) -> float:
    """Give the likely time to the first token as a multiple of what is allowed."""
    if max_latency_s is None:
        return 0.0
    prefill_s = tokens / now.prefill_tokens_per_s if now.prefill_tokens_per_s else 0.0
    return (now.wait_s + prefill_s) / max(max_latency_s, LEAST_LATENCY_S)


def _reason(found: Candidates, looks: Sequence[_Look], best: _Look, ask: Ask) -> str:
    """Say why a target was chosen, and why none before it."""
    before = found.considered[: best.candidate.place - 1]
    skipped = [(candidate.model.id, _passed_over(candidate, looks, best)) for candidate in before]
    said = reason(best.candidate, len(found.considered), found.words, skipped)
    if best.target.name == ask.session_target:
        said += f" Its session was served by '{best.target.name}' before."
    elif best.target != best.candidate.targets[0]:
        said += f" It goes to '{best.target.name}', after {_whys(looks, best)}."
    return said + (f" No other would do better: {best.why}." if best.why else "")


def _passed_over(candidate: Candidate, looks: Sequence[_Look], best: _Look) -> str:
    """Say why a candidate that comes before the best was not chosen."""
    if candidate.obstacle is not None:
        return OBSTACLE_WORDS[candidate.obstacle]
    mine = [look for look in looks if look.candidate is candidate]
    return next((_against(look, best) for look in mine if look.rank is not None), mine[0].why)


def _whys(looks: Sequence[_Look], best: _Look) -> str:
    """Say why none of the targets that come before the best was chosen."""
    mine = [look for look in looks if look.candidate is best.candidate]
    before = mine[: next(place for place, look in enumerate(mine) if look is best)]
    return ", ".join(f"'{look.target.name}' ({_against(look, best)})" for look in before)


def _against(look: _Look, best: _Look) -> str:
    """Say what speaks against a target when another is the best."""
    if look.rank is None or best.rank is None:
        return look.why
    if look.rank[0] and not best.rank[0]:
        return "tried before"
    if look.why:
        return look.why
    return "a wait" if look.candidate is best.candidate else "not where its session is"


def _refused(looks: Sequence[_Look], ask: Ask) -> Refused:
    """Refuse where no target can serve; for ever where each of them would have to change."""
    if all(look.why == TOO_LONG for look in looks):
        targets = [(look.target.name, look.target.context_tokens) for look in looks]
        return Refused(refusals.prompt_too_long(ask.tokens, targets), is_temporary=False)
    problem = refusals.none_can_serve([(look.target.name, look.why) for look in looks])
    return Refused(problem, is_temporary=not all(look.is_final for look in looks))
