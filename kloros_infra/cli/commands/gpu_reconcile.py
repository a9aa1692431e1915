"""`kloros-infra gpu reconcile`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.gpu_options import facts_options
from kloros_infra.cli.options import manager_option, root_option


@click.command("reconcile")
@root_option
@manager_option
@facts_options
def command(root: Path, manager: str, sysfs: Path, procfs: Path) -> None:
    """Look at the cards once, and switch to the profile that they allow.

    kloros-reconcile.service calls this where the resident agent does not run. Where nothing has changed, nothing is
    written, and nothing is said except on a terminal.
    """
    import sys

    from kloros_infra.cli.gpu_site import read_report
    from kloros_infra.cli.gpu_wiring import GpuPlaces, reconcile_here
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.terminal import is_terminal
    from kloros_infra.cli.wiring import target
    from kloros_infra.errors import ProblemsError

    where = target(root, manager)
    # A journal that says the same each minute hides what is new.
    is_watched = is_terminal(sys.stdout)
    told = None if is_watched else read_report(where)
    outcome = reconcile_here(GpuPlaces(where, sysfs, procfs))
    if any(problem.is_error for problem in outcome.problems):
        raise ProblemsError(outcome.problems)
    known = {(one.code, one.detail) for one in told.problems} if told is not None else set()
    show_problems([problem for problem in outcome.problems if (problem.code, problem.detail) not in known], {})
    if outcome.report is not None and (is_watched or outcome.is_switched):
        switched = f", after {outcome.before}" if outcome.is_switched and outcome.before else ""
        click.echo(f"{outcome.report.profile}{switched}: {outcome.report.reason}")
