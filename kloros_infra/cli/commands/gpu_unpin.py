"""`kloros-infra gpu unpin`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kloros_infra.cli.gpu_arguments import echo_outcome, with_site

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("unpin")
@with_site
def command(site: GpuSite, *, as_json: bool) -> None:
    """Have the best profile active again whose GPUs may be used."""
    from kloros_infra.cli.gpu_locking import unpin

    echo_outcome(unpin(site, datetime.now().astimezone()), as_json=as_json)
