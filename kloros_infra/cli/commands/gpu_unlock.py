"""`kloros-infra gpu unlock`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kloros_infra.cli.gpu_arguments import echo_outcome, gpu_argument, with_site

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("unlock")
@gpu_argument
@with_site
def command(site: GpuSite, gpu: str, *, as_json: bool) -> None:
    """End what `gpu lock` did. A lockout that comes from elsewhere is named, and stays: exit code 1."""
    from kloros_infra.cli.gpu_locking import unlock_named
    from kloros_infra.cli.gpu_wishes import Owner

    echo_outcome(unlock_named(site, gpu, Owner.LOCK, datetime.now().astimezone()), as_json=as_json)
