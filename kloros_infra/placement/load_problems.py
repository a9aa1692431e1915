"""What can be wrong with a server that has loaded its model, as diagnostics; the gate adds the unit and its log."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.diagnostics import Diagnostic, Severity, quoted_log
from kloros_infra.ir.load_report import LoadedModel, LoadReport
from kloros_infra.ir.placement import DeviceLoad, Placement
from kloros_infra.placement.problems import in_mib


def no_load_report() -> Diagnostic:
    """KI570: the log does not say what was loaded where."""
    return Diagnostic(
        code="KI570",
        summary="No load report",
        detail="The server is ready, but its log does not say which device holds what, so the placement was not "
        "checked.",
        hint="llama-server says so with LLAMA_ARG_LOG_VERBOSITY=4; where it does not, its build uses other words.",
        severity=Severity.WARNING,
    )


def runs_on_the_cpu(placement: Placement, model: LoadedModel, report: LoadReport) -> Diagnostic:
    """KI571: nothing is on any GPU."""
    wanted = ", ".join(_device(load) for load in placement.loads if load.card)
    seen = f"it saw {', '.join(report.devices)}" if report.devices else "it saw no GPU"
    claim = (
        ""
        if not model.offloaded_layers
        else f" Its line “offloaded {model.offloaded_layers}/{model.layer_slots} layers to GPU” says what was asked."
    )
    return Diagnostic(
        code="KI571",
        summary="Model runs on the CPU",
        detail=f"The model is placed on {wanted}, and all of it is in host memory: {seen}.{claim}"
        + (quoted_log(report.notes) if report.notes else ""),
        hint="See that nvidia and nvidia-uvm are loaded and that llama-server is built for CUDA; then apply again.",
    )


def weights_elsewhere(device: str, load: DeviceLoad | None, found_bytes: int, model: LoadedModel) -> Diagnostic:
    """KI572: a device holds other weights than it was given."""
    placed = "nothing is placed there" if load is None else f"{in_mib(load.weights_bytes)} {_layers(load)} are placed"
    asked = (
        "" if model.layer_slots is None else f" ({model.offloaded_layers} of {model.layer_slots} layers were offloaded)"
    )
    return Diagnostic(
        code="KI572",
        summary="Weights on another device",
        detail=f"{_named(device, load)} holds {in_mib(found_bytes)} of weights{asked}, and {placed}.",
        hint="See whether `arguments` of the model or the environment say something else about layers and devices.",
    )


def state_elsewhere(device: str, load: DeviceLoad | None, found_bytes: int) -> Diagnostic:
    """KI573: keys and values are not where their layers are."""
    placed = 0 if load is None else load.kv_bytes
    return Diagnostic(
        code="KI573",
        summary="Keys and values on another device",
        detail=f"{_named(device, load)} holds {in_mib(found_bytes)} of keys and values, and {in_mib(placed)} belong to "
        "its layers.",
        hint="Every token copies what lies elsewhere: see whether `arguments` turn kv-offload off or change the cache.",
    )


def no_flash_attention(notes: Sequence[str]) -> Diagnostic:
    """KI574: flash attention is off."""
    return Diagnostic(
        code="KI574",
        summary="Flash attention is off",
        detail="The placement counts on flash attention, and the server runs without it: it needs more memory with "
        "each token of context." + (quoted_log(notes) if notes else ""),
        hint="Use a cache type and a build that the devices support flash attention with.",
    )


def many_splits(foreseen: int, found: int, *, is_error: bool) -> Diagnostic:
    """KI575: devices take turns far more often than the placement makes them."""
    return Diagnostic(
        code="KI575",
        summary="More graph splits than foreseen",
        detail=f"For each token the work changes devices {found} times, and the placement needs {foreseen}: something "
        "in every layer is computed elsewhere.",
        hint="As a rule a GPU lacks a kernel, for a cache type above all; f16, or q8_0 for both, are in every build.",
        severity=Severity.ERROR if is_error else Severity.WARNING,
    )


def more_memory(load: DeviceLoad, found_bytes: int) -> Diagnostic:
    """KI576: a device holds more than it was to hold."""
    return Diagnostic(
        code="KI576",
        summary="More memory than foreseen",
        detail=f"{_device(load)} holds {in_mib(found_bytes)}, and {in_mib(load.total_bytes)} were foreseen.",
        hint="See whether `arguments` enlarge a batch or load something else beside the model.",
    )


def card_holds_other(load: DeviceLoad, found_bytes: int) -> Diagnostic:
    """KI578: NVML counts something else on a card."""
    return Diagnostic(
        code="KI578",
        summary="Card holds something else",
        detail=f"By NVML the server's process has {in_mib(found_bytes)} on {_device(load)}, and "
        f"{in_mib(load.total_bytes)} are placed there, beside CUDA's own.",
        hint="See that CUDA_VISIBLE_DEVICES names the cards of the profile, and that the driver shows them all.",
    )


def less_context(asked_tokens: int, found_tokens: int) -> Diagnostic:
    """KI579: a slot has less context than asked for."""
    return Diagnostic(
        code="KI579",
        summary="Less context than asked for",
        detail=f"A request can have {found_tokens} tokens, and {asked_tokens} are asked for.",
        hint="Write a smaller context_tokens, or let the model have more memory.",
    )


def _layers(load: DeviceLoad) -> str:
    return "(1 layer)" if load.layers == 1 else f"({load.layers} layers)"


def _device(load: DeviceLoad) -> str:
    return f"{load.device} ({load.card})" if load.card else load.device


def _named(device: str, load: DeviceLoad | None) -> str:
    return device if load is None else _device(load)
