"""`kloros-infra gpu lock`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kloros_infra.cli.gpu_arguments import REASON, echo_outcome, gpu_argument, with_site
from kloros_infra.cli.until import UNTIL

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("lock")
@gpu_argument
@click.option("--until", type=UNTIL, metavar="WHEN", help="When it ends by itself: 22:00, 2h, or a date and time.")
@click.option(
    "--reason", type=REASON, default="by hand", show_default=True, metavar="TEXT", help="What for; it is shown."
)
@click.option("--no-wait", is_flag=True, help="Return at once, whoever acts on it.")
@with_site
def command(site: GpuSite, gpu: str, *, no_wait: bool, as_json: bool, **said: Any) -> None:
    """Keep GPU from our models: its profiles give way, and what runs there finishes its requests and stops.

    Returns once the profile has followed; `release` waits until the GPU is free. GPU is a name of models.yaml, a UUID,
    a PCI address, or its place in `gpu list`, from 0.
    """
    from kloros_infra.cli.gpu_locking import lock
    from kloros_infra.ir.card_facts import Lockout

    lockout = Lockout(site.card(gpu).name, said["reason"], said["until"])
    outcome = lock(site, lockout, datetime.now().astimezone(), waits=not no_wait)
    echo_outcome(outcome, as_json=as_json)
