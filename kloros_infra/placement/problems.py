"""What placement can complain of (KI401, KI402)."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import Instance
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
    """Say that a model needs more of a card than it has; `load` is that of the busiest card."""
    have = load.capacity_bytes or 0
    return Diagnostic(
        code="KI401",
        summary="Model does not fit",
        detail=f"{instance.id.unit} needs {in_mib(load.total_bytes)} on {load.card} and has {in_mib(have)} there: "
        f"{in_mib(load.total_bytes - have)} too much (weights {in_mib(load.weights_bytes)}, keys and values "
        f"{in_mib(load.kv_bytes)} for {instance.model.parallel} x {instance.model.context_tokens} tokens, compute "
        f"{in_mib(load.compute_bytes)}).",
        hint="Choose a smaller quantization, fewer context_tokens or less parallel, give the profile more GPUs, "
        "or leave the model out of this profile (null).",
        address=address_of(instance),
    )


def do_not_fit_together(
    profile: str, card: str, have_bytes: int, needs: Sequence[tuple[InstanceId, int]]
) -> Diagnostic:
    """Say that the instances a profile starts by itself need more of a card than it has."""
    need_bytes = sum(need for _, need in needs)
    table = "\n".join(f"  {instance.unit:<48} {in_mib(need):>12}" for instance, need in needs)
    return Diagnostic(
        code="KI402",
        summary="Preloaded models do not fit together",
        detail=f"Under profile {profile}, {card} has {in_mib(have_bytes)} and the models started with it need "
        f"{in_mib(need_bytes)}: {in_mib(need_bytes - have_bytes)} too much.\n{table}",
        hint="Set preload: false on a model that may wait until it is asked for, or make one of them smaller.",
        address=f"profiles.{profile}",
    )
