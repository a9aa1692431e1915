"""Checks of models.yaml against the lock (KI301 to KI304)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import ModelSpec
from kloros_infra.ir.lock import Lock, LockedWeights, weights_key

LOCK = "Run `kloros-infra lock`."


def check_lock(parsed: Parsed, lock: Lock) -> Iterator[Diagnostic]:
    """Find current versions that the lock does not pin as they are written."""
    for index, model in enumerate(parsed.config.models):
        for place, version in enumerate(model.versions):
            if version.version_id != model.current_version:
                continue
            key = weights_key(model.id, version.version_id)
            problem = _weights_problem(key, version.gguf_url, lock.weights.get(key))
            if problem:
                yield parsed.locate(problem, ("models", index, "versions", place, "gguf_url"))
            if key in lock.weights and model.context_tokens > lock.weights[key].header.context_length:
                yield parsed.locate(_long_context(model, lock.weights[key]), ("models", index, "context_tokens"))


def _weights_problem(key: str, source: tuple[str, ...], entry: LockedWeights | None) -> Diagnostic | None:
    if entry is None:
        detail = f"The lock has no entry {key}: nothing says which bytes these weights are."
        return Diagnostic("KI301", "Weights not locked", detail, LOCK)
    if entry.source != source:
        detail = f"{key} is locked from {', '.join(entry.source)}; here stands {', '.join(source)}."
        return Diagnostic("KI302", "Lock out of date", detail, LOCK)
    if entry.is_derived:
        return Diagnostic(
            code="KI303",
            summary="Header derived",
            detail=f"The file of {key} could not be reached; its header follows from the published architecture.",
            hint="Run `kloros-infra lock` where the file can be reached; until then apply refuses this model.",
            severity=Severity.WARNING,
        )
    return None


def _long_context(model: ModelSpec, entry: LockedWeights) -> Diagnostic:
    return Diagnostic(
        code="KI304",
        summary="Context beyond training",
        detail=f"{model.id} was trained for {entry.header.context_length} tokens and gets {model.context_tokens}.",
        hint=f"Lower context_tokens to {entry.header.context_length}; answers degrade beyond it.",
        severity=Severity.WARNING,
    )
