"""Checks of pairs of limits of which one must not exceed the other (KI240)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.config import Config


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two settings of one part of the file: `less` must not be more than `more`, because of `reason`."""

    part: Address
    less: tuple[str, float]
    more: tuple[str, float]
    reason: str


def check_limits(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find pairs of limits that stand the wrong way round."""
    for pair in _pairs(parsed.config):
        (less, low), (more, high) = pair.less, pair.more
        if low > high:
            problem = Diagnostic(
                code="KI240",
                summary="Limits the wrong way round",
                detail=f"`{less}` is more than `{more}`: {pair.reason}.",
                hint=f"Make `{less}` at most as large as `{more}`; what is not written has its default.",
            )
            written = less if parsed.source.written((*pair.part, less)) is not None else more
            yield parsed.locate(problem, (*pair.part, written))


def _pairs(config: Config) -> Iterator[_Pair]:
    for name, host in config.hosts.items():
        if host.upstream is not None:
            health = host.upstream.health
            reason = "the next question would come while the last one waits for its answer"
            part: Address = ("hosts", name, "upstream", "health")
            yield _Pair(part, ("timeout", health.timeout), ("interval", health.interval), reason)
    for name, profile in config.profiles.items():
        conditions = profile.conditions
        reason = "the profile would be left as soon as it is taken"
        limits = ("take_below", conditions.take_below), ("leave_above", conditions.leave_above)
        yield _Pair(("profiles", name, "conditions"), *limits, reason)
    for index, model in enumerate(config.models):
        if model.draft is not None:
            draft = model.draft
            least, most = ("min_tokens", draft.min_tokens), ("max_tokens", draft.max_tokens)
            yield _Pair(("models", index, "draft"), least, most, "no number of tokens is both")
        if model.min_context_tokens is not None:
            reason = "the context is never lowered so far"
            limits = ("min_context_tokens", model.min_context_tokens), ("context_tokens", model.context_tokens)
            yield _Pair(("models", index), *limits, reason)
