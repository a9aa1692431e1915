"""Checks that a port is left out only where one can be found for it (KI284)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.instance_ports import left_out
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rpc_hosts import borrowers, lending_hosts
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.names import InstanceId


def check_given_ports(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find instances that need a port of their own and are given none."""
    config = parsed.config
    lenders = {instance: host for host in lending_hosts(config) for instance, _ in borrowers(config, host)}
    for index, model in enumerate(config.models):
        missing = left_out(model)
        if missing and len(missing) == _runs(model):
            yield parsed.locate(_no_port(model), ("models", index, "profiles", missing[0]), at_key=True)
            continue
        for profile in missing:
            host = lenders.get(InstanceId(model.unit_name, profile))
            if host is not None:
                problem = _borrows(model, profile, host)
                yield parsed.locate(problem, ("models", index, "profiles", profile), at_key=True)


def _runs(model: ModelSpec) -> int:
    return sum(instance is not None for instance in model.profiles.values())


def _no_port(model: ModelSpec) -> Diagnostic:
    return Diagnostic(
        code="KI284",
        summary="Port is missing",
        detail=f"{model.id} has no port under any profile.",
        hint="Give it one under its first profile: others may leave theirs out.",
    )


def _borrows(model: ModelSpec, profile: str, host: str) -> Diagnostic:
    return Diagnostic(
        code="KI284",
        summary="Port is missing",
        detail=f"{model.id} has no port under {profile}, which has a card of {host}: the RPC server there is found by"
        " it, and a port that was worked out could move.",
        hint=f"Give it a port under {profile}.",
    )
