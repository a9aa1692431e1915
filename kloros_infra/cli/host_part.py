"""What a host is to look like that lends its cards, where its part of models.yaml is applied."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.adapters.programs import find_rpc_server, hidden_from_units
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.emit_launcher import launcher
from kloros_infra.compiler.rpc_hosts import RPC_SERVER
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.generation import Provenance
from kloros_infra.ir.rpc_server import HostPart
from kloros_infra.planner.desired import Desired, desired_part
from kloros_infra.planner.obstacles import unnamed_cards


def desired_for_part(compiled: Compiled, where: Target, name: str, *, provenance: Provenance) -> Desired:
    """Say what a host looks like that lends its cards; raise ProblemsError for one that lends none."""
    part = _part_named(compiled, name)
    tree, problems = dict(part.tree), unnamed_cards(compiled.catalog, name)
    try:
        program = find_rpc_server(part.host.program)
    except ObstacleError as error:
        problems = (*problems, *error.problems)
    else:
        tree[where.layout.program_path(RPC_SERVER)] = launcher(program.path, program.library_path, ())
        problems = (*problems, *(hidden_from_units(program) if where.manager is ManagerChoice.SYSTEMD else ()))
    desired = desired_part(part, tree, layout=where.layout, exposure_limit=compiled.catalog.sandbox.exposure_limit)
    return replace(desired, refusals=problems, provenance=provenance)


def _part_named(compiled: Compiled, name: str) -> HostPart:
    parts = {part.host.name: part for part in compiled.parts}
    if name in parts:
        return parts[name]
    problem = Diagnostic(
        code="KI436",
        summary="Host that lends no cards",
        detail=f"No model is placed on cards of a host {name!r}, so there is nothing to be set up there.",
        hint=suggest(name, parts) if parts else "Give the host `rpc`, and list its cards in a profile.",
    )
    raise ProblemsError([problem])
