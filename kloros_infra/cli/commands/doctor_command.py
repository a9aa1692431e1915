"""`kloros-infra doctor`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option
from kloros_infra.doctor.examine import NAMES

MODELS_FILE = Path("models.yaml")


@click.command("doctor")
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The models.yaml to check for; without it, ./models.yaml if it is there, and else what is installed.",
)
@root_option
@manager_option
@click.option(
    "--only",
    "only",
    multiple=True,
    type=click.Choice(NAMES),
    metavar="NAME",
    help="Show this check alone; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of text.")
def command(file: Path | None, root: Path, manager: str, only: tuple[str, ...], *, as_json: bool) -> None:
    """Check whether this machine can do what is asked of it: driver, llama-server, system, disk, installation, bus.

    Says of each thing whether it is well, and otherwise why it matters and what mends it. Changes nothing, and needs no
    rights: what it may not look at is a warning. Exit code 1 if anything is a failure.
    """
    from kloros_infra.cli.doctor.gathering import gather
    from kloros_infra.cli.doctor.report import report_json, report_lines
    from kloros_infra.cli.wiring import target
    from kloros_infra.doctor.examine import examine, has_failed

    chosen = file if file is not None else MODELS_FILE if MODELS_FILE.exists() else None
    checks = examine(gather(chosen, target(root, manager)), only or NAMES)
    for line in (report_json(checks),) if as_json else report_lines(checks):
        click.echo(line)
    sys.exit(1 if has_failed(checks) else 0)
