"""Where a request that waits in line may go from there."""

from __future__ import annotations

from collections.abc import Mapping, Set

from kloros_infra.router.select import Chosen
from kloros_infra.router.tokens import cannot_fit


def ways(chosen: Chosen, *, tokens: int, tried: Set[str]) -> Mapping[str, Chosen]:
    """List the targets that may serve it, by name: where one was chosen that has not failed it, none that has.

    Else it would go back to a host that has failed it, and is free, before an instance can have started. A prompt
    goes nowhere where it cannot fit.
    """
    candidate = chosen.candidate
    spurned = tried if chosen.target.name not in tried else frozenset[str]()
    return {
        target.name: Chosen(candidate, target, candidate.reason)
        for target in candidate.targets
        if target.name not in spurned and not (target.context_tokens and cannot_fit(tokens, target.context_tokens))
    }
