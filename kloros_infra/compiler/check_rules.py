"""Checks of the rules by which requests without a purpose find one (KI246 to KI249)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.config_requests import PurposeSpec, WhenSpec

_EVERYTHING = WhenSpec()


def check_rules(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find rules that say nothing, that no request meets, or that only requests meet which are refused then."""
    models = {model.id: model for model in parsed.config.models}
    for name, purpose in parsed.config.purposes.items():
        for place, rule in enumerate(purpose.when):
            address: Address = ("purposes", name, "when", place)
            if rule == _EVERYTHING:
                yield parsed.locate(_without_marks(name), address)
            elif (found := _never(rule)) is not None:
                key, reason = found
                yield parsed.locate(_never_holds(reason), (*address, key))
            elif (found := _unserved(rule, purpose, models)) is not None:
                key, reason = found
                yield parsed.locate(_none_serves(name, reason), (*address, key))


def check_shadows(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find rules that no request comes to, because an earlier one takes all that they would."""
    owners: dict[WhenSpec, str] = {}
    for name, place, rule in _rules_in_order(parsed.config):
        shadow = _EVERYTHING if _EVERYTHING in owners else rule
        if shadow in owners:
            yield parsed.locate(_shadowed(name, owners[shadow]), ("purposes", name, "when", place))
        owners.setdefault(rule, name)


def _rules_in_order(config: Config) -> Iterator[tuple[str, int, WhenSpec]]:
    for name, purpose in config.purposes.items():
        for place, rule in enumerate(purpose.when):
            yield name, place, rule


def _never(rule: WhenSpec) -> tuple[str, str] | None:
    """Say which mark of a rule excludes another one."""
    if rule.kind is not None and not rule.kind.can_chat:
        if rule.has_images:
            return "has_images", f"requests of kind {rule.kind} carry no images"
        if rule.has_tools:
            return "has_tools", f"requests of kind {rule.kind} carry no tools"
    if rule.kind is ModelKind.VISION and rule.has_images is False:
        return "has_images", "requests of kind vision are those with images"
    return None


def _unserved(rule: WhenSpec, purpose: PurposeSpec, models: Mapping[str, ModelSpec]) -> tuple[str, str] | None:
    """Say which mark of a rule asks for more than any candidate has."""
    candidates = [models[name] for name in purpose.candidates if name in models]
    if not candidates:
        return None
    if rule.kind is not None and not any(_can_serve(model.kind, rule.kind) for model in candidates):
        return "kind", f"requests of kind {rule.kind}, which none of them serves"
    if rule.has_images and not any(model.kind is ModelKind.VISION for model in candidates):
        return "has_images", "requests with images, which none of them can see"
    largest = max(_largest_context(model) for model in candidates)
    if rule.min_tokens is not None and rule.min_tokens > largest:
        return "min_tokens", f"requests of {rule.min_tokens} tokens and more, and the largest context is {largest}"
    return None


def _can_serve(kind: ModelKind, asked: ModelKind) -> bool:
    return kind is asked or (asked is ModelKind.CHAT and kind.can_chat)


def _largest_context(model: ModelSpec) -> int:
    instances = (instance for instance in model.profiles.values() if instance is not None)
    return max((model.context_tokens, *(instance.context_tokens or 0 for instance in instances)))


def _without_marks(purpose: str) -> Diagnostic:
    return Diagnostic(
        code="KI249",
        summary="Rule without marks",
        detail=f"This rule of {purpose} names no mark, so every request without a purpose meets it.",
        hint="Add what marks such requests, or take the rule out; `default: true` names the purpose of all others.",
    )


def _never_holds(reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI246",
        summary="Rule that never holds",
        detail=f"All marks of a rule must hold, and {reason}.",
        hint="Take one of the two marks out, or make two rules of them.",
    )


def _none_serves(purpose: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI248",
        summary="Rule for what no candidate serves",
        detail=f"This rule gives the candidates of {purpose} {reason}: they would be refused.",
        hint="Add a candidate that can, or correct the rule.",
        severity=Severity.WARNING,
    )


def _shadowed(purpose: str, earlier: str) -> Diagnostic:
    whose = "the same purpose" if earlier == purpose else earlier
    return Diagnostic(
        code="KI247",
        summary="Rule that is never reached",
        detail=f"The first rule that holds counts, and an earlier one of {whose} takes all that this one would.",
        hint="Take the rule out, or make the earlier one narrower.",
        severity=Severity.WARNING,
    )
