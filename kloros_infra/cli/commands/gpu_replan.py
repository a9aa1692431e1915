"""`kloros-infra gpu replan`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.gpu_options import facts_options
from kloros_infra.cli.options import manager_option, root_option


@click.command("replan")
@root_option
@manager_option
@facts_options
def command(root: Path, manager: str, sysfs: Path, procfs: Path) -> None:
    """Make a plan for GPUs that are not as they were compiled for; apply it where `policies.on_gpu_change` says so.

    Whoever follows the GPUs starts this, once for each such change. The plan waits in hardware.plan beside the journal.
    """
    from kloros_infra.cli.gpu_wiring import GpuPlaces
    from kloros_infra.cli.replanning import replan
    from kloros_infra.cli.wiring import target

    record = replan(GpuPlaces(target(root, manager), sysfs, procfs))
    if record is None:
        click.echo("As far as is known, the GPUs are as they were compiled for.")
        return
    for change in record.changes:
        click.echo(f"{change}.")
    click.echo(f"{record.sentence[0].upper()}{record.sentence[1:]}")
