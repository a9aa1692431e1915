"""What can be wrong with an answer of the external gguf-tensor-overrider (KI403, KI420 to KI427)."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from kloros_infra.diagnostics import Diagnostic, Severity, quoted_log
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.overrider_record import OverriderQuestion
from kloros_infra.placement.problems import address_of

ASK = "Run `kloros-infra lock` on a machine that has the tool"
_OTHERWISE = "or write `placement: auto`, which places by itself."
_SHOWN = 3


def not_asked(instance: Instance) -> Diagnostic:
    """Say that nobody has asked the tool for this instance."""
    return Diagnostic(
        code="KI403",
        summary="No answer of the overrider",
        detail=f"{instance.id.unit} is to be placed by the external gguf-tensor-overrider, and the lock has no answer "
        "of it.",
        hint=f"{ASK} (hosts.<name>.tensor_overrider), {_OTHERWISE}",
        address=address_of(instance),
    )


def out_of_date(instance: Instance, asked: OverriderQuestion, now: OverriderQuestion) -> Diagnostic:
    """Say that the recorded answer is to another question."""
    differences = "; ".join(f"{name}: {old}, now {new}" for name, old, new in asked.differences(now))
    return Diagnostic(
        code="KI420",
        summary="Overrider's answer out of date",
        detail=f"What the overrider answered for {instance.id.unit} is of another question ({differences}).",
        hint=f"{ASK}, {_OTHERWISE}",
        address=address_of(instance),
    )


def not_readable(instance: Instance, reason: str) -> Diagnostic:
    """Say that a record cannot be read."""
    return Diagnostic(
        code="KI421",
        summary="Overrider's record not readable",
        detail=f"The record of what the overrider answered for {instance.id.unit} cannot be read: {reason}.",
        hint=f"Restore it from Git. {ASK} to have it written anew.",
        address=address_of(instance),
    )


def not_understood(instance: Instance, reason: str) -> Diagnostic:
    """Say that what the tool printed is not what it is known to print."""
    return Diagnostic(
        code="KI422",
        summary="Overrider's answer not understood",
        detail=f"What the overrider printed for {instance.id.unit} cannot be used: {reason}.",
        hint='It is expected to print one line, such as `-ngl 0 -ot "output.weight=CUDA0" …`, without --verbose. Check '
        f"hosts.<name>.tensor_overrider, {_OTHERWISE}",
        address=address_of(instance),
    )


def unknown_names(instance: Instance, what: str, found: Sequence[str], known: Sequence[str]) -> Diagnostic:
    """Say that an answer names tensors or devices that are not there."""
    near = get_close_matches(found[0], known, n=1)
    return Diagnostic(
        code="KI423",
        summary="Overrider's answer is of something else",
        detail=f"The overrider's answer for {instance.id.unit} names {_listed(what, found)} that "
        f"{'is' if len(found) == 1 else 'are'} not there.",
        hint=f"{f'Did you mean {near[0]}? ' if near else ''}Do not edit the record; {_again()}",
        address=address_of(instance),
    )


def tensors_missing(instance: Instance, missing: Sequence[str]) -> Diagnostic:
    """Say that an answer leaves tensors out."""
    return Diagnostic(
        code="KI424",
        summary="Overrider's answer is not whole",
        detail=f"The overrider's answer for {instance.id.unit} does not say where {_listed('tensor', missing)} shall "
        "go.",
        hint=f"Do not edit the record; {_again()}",
        address=address_of(instance),
    )


def _again() -> str:
    return f"{ASK} with --refresh, {_OTHERWISE}"


def _listed(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the {what}{'' if len(names) == 1 else 's'} {shown}{more}"


def layers_moved(instance: Instance, count: int) -> Diagnostic:
    """Say that some layers are not where the tool wanted them."""
    return Diagnostic(
        code="KI425",
        summary="Overrider's layers moved",
        detail=f"For {instance.id.unit} the overrider divides the layers so that devices take turns. llama.cpp gives "
        "each device one run of layers, the CPU the first ones, and layers of this model differ, so that they cannot "
        f"change places: {count} of them go to another device than the overrider says.",
        hint="Nothing needs to be done. `placement: auto` divides by layers from the start.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def not_configured(instance: Instance) -> Diagnostic:
    """Say that an answer is wanted, and models.yaml names no program."""
    return Diagnostic(
        code="KI426",
        summary="Overrider not configured",
        detail=f"{instance.id.unit} is to be placed by the external gguf-tensor-overrider, and models.yaml does not "
        "say how to run it.",
        hint="Set hosts.<name>.tensor_overrider, such as [node, --experimental-strip-types, "
        f"/opt/gguf-tensor-overrider/src/index.ts], {_OTHERWISE}",
        address=address_of(instance),
    )


def tool_failed(program: str, reason: str, log: Sequence[str]) -> Diagnostic:
    """Say that the tool did not answer, with what it wrote last."""
    return Diagnostic(
        code="KI427",
        summary="Overrider failed",
        detail=f"{program} {reason}.{quoted_log(log)}",
        hint="It needs Node.js 22 or later and its packages (`npm ci` in its folder). Types of tensors that it does "
        "not know make it fail too: then write `placement: auto`, which places by itself.",
        address="hosts",
    )
