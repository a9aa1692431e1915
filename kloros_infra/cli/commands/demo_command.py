"""`kloros-infra demo`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import click


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave it running and say how to talk to it.")
def command(*, keep: bool) -> None:
    """Run the whole loop on two small models: compile, plan, apply, ask in three languages, shut down.

    Needs no root, no systemd and no GPU, but the `demo` extra: pip install 'kloros-infra[demo]'.
    """
    from kloros_infra.cli.demo import run_demo

    run_demo(keep=keep)
