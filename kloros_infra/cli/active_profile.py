"""Settle the active profile on a target, from its routing table alone: models.yaml need not be there."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.agent.reconcile import Outcome, considered, reconcile
from kloros_infra.cli.gpu_wiring import GpuPlaces, InstalledTable, outside_of
from kloros_infra.cli.wiring import ManagerChoice, Target, target
from kloros_infra.daemon.files import read_table
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutingTable


def profile_by_table(routing: Path) -> tuple[RoutingTable, tuple[str, str]]:
    """Say which profile the cards allow now, and why; write nothing. Raise ProblemsError without a table."""
    table = _table(routing)
    report, _ = considered(outside_of(GpuPlaces(_target(table))), table)
    return table, (report.profile, report.reason)


def start_profile(routing: Path) -> Outcome:
    """Reconcile, and have the profile's target started on a real root, without waiting for it.

    This runs at boot: so it notes which generation that was. Raise ProblemsError without a table.
    """
    where = _target(_table(routing))
    outside = outside_of(GpuPlaces(where), table=InstalledTable(routing))
    outcome = reconcile(outside)
    if outcome.report is None:
        raise ProblemsError(outcome.problems)
    # The target may have been stopped since it was last started; one that is up stays so.
    outside.followers.start_target(outcome.report.profile)
    GenerationFolders(where.root).note_boot()
    return outcome


def _table(routing: Path) -> RoutingTable:
    table = read_table(WatchedFile(routing))
    if isinstance(table, Diagnostic):
        raise ProblemsError([table])
    return table


def _target(table: RoutingTable) -> Target:
    return target(Path(table.profile_file.removesuffix(Layout().profile_file)), ManagerChoice.AUTO)
