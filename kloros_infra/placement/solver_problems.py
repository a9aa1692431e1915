"""What the solver has to say of a plan, or why there is none (KI411 to KI414)."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.devices import Device
from kloros_infra.placement.problems import address_of, in_mib


def layers_stay_with_the_cpu(instance: Instance, placement: Placement) -> Diagnostic:
    """Say that a model does not go wholly on its cards, and what that costs."""
    cpu, predicted = placement.loads[-1], placement.predicted
    speed = f"; about {predicted.decode_tokens_per_s:.1f} tokens/s are foreseen" if predicted else ""
    rooms = ", ".join(f"{load.card} {in_mib(load.capacity_bytes or 0)}" for load in placement.loads[:-1])
    # What is asked for embeddings or ranks reads a text in one micro-batch, whose results take memory of their own.
    is_whole = not instance.model.kind.can_chat
    batch = f"; a text is read as one micro-batch of {placement.micro_batch} tokens" if is_whole else ""
    return Diagnostic(
        code="KI411",
        summary="Layers stay with the CPU",
        detail=f"{instance.id.unit} keeps {cpu.layers} of {instance.model.weights.header.layer_count} layers "
        f"({in_mib(cpu.weights_bytes + cpu.kv_bytes)}) in host memory: the cards have no room for them"
        f" ({rooms or 'none of them can hold a layer'}){batch}{speed}.",
        hint="Choose a smaller quantization or fewer context_tokens, set preload: false on a model beside it, or leave "
        "it out of this profile (null).",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def context_lowered(instance: Instance, placement: Placement) -> Diagnostic:
    """Say that a model got less context so that it goes on its cards."""
    return Diagnostic(
        code="KI412",
        summary="Context lowered",
        detail=f"{instance.id.unit} gets {placement.context_tokens} tokens of context instead of "
        f"{instance.serving.context_tokens}, so that the whole model is on its cards.",
        hint="Raise `min_context_tokens` if that is too little; layers then stay with the CPU.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def cache_types_changed(instance: Instance, placement: Placement) -> Diagnostic:
    """Say that keys and values are kept in less precise types, so that more of the model is on fast cards."""
    serving = instance.serving
    return Diagnostic(
        code="KI415",
        summary="Cache types changed",
        detail=f"{instance.id.unit} keeps keys as {placement.cache_type_k} and values as {placement.cache_type_v} "
        f"instead of {serving.cache_type_k} and {serving.cache_type_v}: with these, the CPU or more cards would hold "
        "a part of the model.",
        hint="Take the types out of `cache_types` if precision matters more than speed.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def fits_nowhere(instance: Instance, devices: Sequence[Device]) -> Diagnostic:
    """Say that a model is too large for all devices together."""
    rooms = ", ".join(f"{device.card or 'host'} {in_mib(device.usable_bytes or 0)}" for device in devices)
    return Diagnostic(
        code="KI413",
        summary="Model fits nowhere",
        detail=f"{instance.id.unit} has {in_mib(instance.model.weights.header.weights_bytes)} of weights, and there "
        f"is no way to divide it between {rooms}.",
        hint="Choose a smaller quantization or fewer context_tokens, or correct the host's `memory`.",
        address=address_of(instance),
    )


def odd_figures(instance: Instance, device: Device) -> Diagnostic:
    """Say that a device's figures cannot be reckoned with."""
    return Diagnostic(
        code="KI414",
        summary="Figures that cannot be",
        detail=f"{device.card or device.name} would read {device.read_bytes_per_s:g} bytes/s, compute "
        f"{device.flops_per_s:g} operations/s and be sent {device.link_bytes_per_s:g} bytes/s; each must be a finite "
        "number above 0.",
        hint="Correct `bandwidth`, `tflops` and `link` of the GPU, or what was measured of it.",
        address=address_of(instance),
    )
