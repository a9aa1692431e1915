"""`kloros-infra destroy`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option, yes_option


@click.command("destroy")
@root_option
@manager_option
@yes_option
@click.option("--with-weights", is_flag=True, help="Remove the weights as well; they are dear to fetch again.")
def command(root: Path, manager: str, *, yes: bool, with_weights: bool) -> None:
    """Stop and remove everything that apply installed, and leave the machine as it was before.

    Needs no models.yaml; weights stay unless asked.
    """
    from kloros_infra.cli.changing import Manner, destroy
    from kloros_infra.cli.wiring import target

    manner = Manner("Do you really want to destroy everything that apply installed?", yes=yes)
    destroy(target(root, manager), manner, with_weights=with_weights)
