"""`modelctl start`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import DURATION, root_option


@click.command("start")
@click.argument("name")
@root_option
@click.option("--no-wait", "is_hasty", is_flag=True, help="Return at once.")
@click.option("--timeout", "wait_s", type=DURATION, default="5m", show_default=True, help="How long to wait.")
def command(name: str, root: Path, *, is_hasty: bool, wait_s: float) -> None:
    """Start NAME, an instance such as code-max or a model of the active profile, and wait until it serves.

    The router does it, as if a request had come: it makes room by stopping what is idle, and stops NAME again when it
    has been idle for its model's time. What failed to load before is tried again.
    """
    from kloros_infra.cli.runtimes import start
    from kloros_infra.cli.wiring import ManagerChoice, target

    start(target(root, ManagerChoice.AUTO), name, wait_s=None if is_hasty else wait_s)
