"""What placement can complain of (KI401 to KI406)."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import Instance, KvType
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import DeviceLoad

_MIB = 2**20


def in_mib(size_bytes: int) -> str:
    """Write an amount of memory as whole MiB, rounded up."""
    return f"{-(-size_bytes // _MIB)} MiB"


def address_of(instance: Instance) -> str:
    """Say where an instance stands in models.yaml."""
    return f"models.{instance.model.id}.profiles.{instance.profile.name}"


def does_not_fit(instance: Instance, load: DeviceLoad) -> Diagnostic:
    """Say that a model needs more of a device than it has; `load` is that of the busiest one."""
    have = load.capacity_bytes or 0
    extra = f", draft model and projector {in_mib(load.extra_bytes)}" if load.extra_bytes else ""
    return Diagnostic(
        code="KI401",
        summary="Model does not fit",
        detail=f"{instance.id.unit} needs {in_mib(load.total_bytes)} on {load.card or 'the host'} and has "
        f"{in_mib(have)} there: "
        f"{in_mib(load.total_bytes - have)} too much (weights {in_mib(load.weights_bytes)}, keys and values "
        f"{in_mib(load.kv_bytes)} for {instance.serving.parallel} x {instance.serving.context_tokens} tokens, compute "
        f"{in_mib(load.compute_bytes)}{extra}).",
        hint="Choose a smaller quantization, fewer context_tokens or less parallel, give the profile more GPUs, "
        "or leave the model out of this profile (null).",
        address=address_of(instance),
    )


def do_not_fit_together(
    profile: str, device: str, have_bytes: int, needs: Sequence[tuple[InstanceId, int]]
) -> Diagnostic:
    """Say that the instances a profile starts by itself need more of a device than it has."""
    need_bytes = sum(need for _, need in needs)
    table = "\n".join(f"  {instance.unit:<48} {in_mib(need):>12}" for instance, need in needs)
    return Diagnostic(
        code="KI402",
        summary="Preloaded models do not fit together",
        detail=f"Under profile {profile}, {device} has {in_mib(have_bytes)} and the models started with it need "
        f"{in_mib(need_bytes)}: {in_mib(need_bytes - have_bytes)} too much.\n{table}",
        hint="Set preload: false on a model that may wait until it is asked for, or make one of them smaller.",
        address=f"profiles.{profile}",
    )


def too_many_layers(instance: Instance, slots: int) -> Diagnostic:
    """Say that `layers` gives away more than there are; `slots` counts the head."""
    given = sum(instance.layers or ())
    return Diagnostic(
        code="KI404",
        summary="More layers than the model has",
        detail=f"{instance.id.unit} gives {given} layers to its cards; {instance.model.id} has {slots}, the output "
        "head counting as one.",
        hint=f"Make `layers` add up to {slots} or less; what is left stays with the CPU.",
        address=address_of(instance),
    )


def cache_type_does_not_fit(instance: Instance, key: str, type_: str, length: int) -> Diagnostic:
    """Say that a type's blocks do not divide the model's heads."""
    return Diagnostic(
        code="KI405",
        summary="Cache type does not fit the model",
        detail=f"`{key}: {type_}` keeps values in blocks, and the heads of {instance.model.id} are {length} values "
        "long, which is no whole number of blocks; llama-server would not start.",
        hint=f"Write `{key}: f16` for this model.",
        address=address_of(instance),
    )


def cache_types_need_a_build(instance: Instance, pairs: Sequence[tuple[KvType, KvType]]) -> Diagnostic:
    """Say that most CUDA builds compute attention over these types on the CPU."""
    kept = ", or ".join(f"keys as {keys} and values as {values}" for keys, values in pairs)
    return Diagnostic(
        code="KI406",
        summary="Cache types that most builds leave to the CPU",
        detail=f"{instance.id.unit} keeps {kept}. "
        "llama.cpp's CUDA kernels are built for f32, f16, bf16, q8_0 and q4_0, one type for both; for anything else "
        "attention runs on the CPU, unless it was built with -DGGML_CUDA_FA_ALL_QUANTS=ON.",
        hint="Give `cache_type_k` and `cache_type_v` one of those types, the same for both, and `cache_types` no "
        "others.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )
