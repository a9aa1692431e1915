"""`kloros-infra gpu release`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kloros_infra.adapters.card_holders import DEV
from kloros_infra.cli.gpu_arguments import REASON, gpu_argument, with_site
from kloros_infra.cli.options import DURATION
from kloros_infra.cli.until import UNTIL

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("release")
@gpu_argument
@click.option(
    "--wait",
    "wait_s",
    type=DURATION,
    default="20s",
    show_default=True,
    metavar="TIME",
    help="How long requests that run may take to finish; then their instances are stopped.",
)
@click.option("--until", type=UNTIL, metavar="WHEN", help="When we take it back by ourselves: 22:00, 2h, or a date.")
@click.option(
    "--reason", type=REASON, default="given up", show_default=True, metavar="TEXT", help="What for; it is shown."
)
@click.option("--dev", type=click.Path(path_type=Path, file_okay=False), default=DEV, hidden=True)
@with_site
def command(site: GpuSite, gpu: str, *, wait_s: float, as_json: bool, **said: Any) -> None:
    """Give GPU up now, for a game or a virtual machine: lock it out, and return once nothing of ours is on it.

    Exit code 0: nobody uses it any more. 3: others do, who are named. 1: it could not be given up. It stays locked out
    in any case, until `gpu return`.
    """
    from kloros_infra.cli.gpu_giving_up import release, release_data, release_lines
    from kloros_infra.ir.card_facts import Lockout

    card = site.card(gpu)
    lockout = Lockout(card.name, said["reason"], said["until"])
    found = release(site, card, lockout, wait_s=wait_s, dev=said["dev"])
    if as_json:
        click.echo(json.dumps(release_data(found), indent=2))
    else:
        for line in release_lines(found):
            click.echo(line)
    sys.exit(found.exit_code)
