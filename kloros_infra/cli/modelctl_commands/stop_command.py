"""`modelctl stop`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import DURATION, root_option


@click.command("stop")
@click.argument("name")
@root_option
@click.option("--no-wait", "is_hasty", is_flag=True, help="Return at once.")
@click.option("--timeout", "wait_s", type=DURATION, default="2m", show_default=True, help="How long to wait.")
def command(name: str, root: Path, *, is_hasty: bool, wait_s: float) -> None:
    """Stop NAME, an instance such as code-max or a model of the active profile, once its requests are done.

    The router does it, and gives it no more requests meanwhile. A later request for it starts it again.
    """
    from kloros_infra.cli.runtimes import stop
    from kloros_infra.cli.wiring import ManagerChoice, target

    stop(target(root, ManagerChoice.AUTO), name, wait_s=None if is_hasty else wait_s)
