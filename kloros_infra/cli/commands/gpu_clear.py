"""`kloros-infra gpu clear`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kloros_infra.cli.gpu_arguments import echo_outcome, gpu_argument, with_site

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("clear")
@gpu_argument
@with_site
def command(site: GpuSite, gpu: str, *, as_json: bool) -> None:
    """Take GPU out of quarantine: what the driver reported of it before is of the past."""
    from kloros_infra.cli.gpu_locking import clear

    echo_outcome(clear(site, site.card(gpu).name, datetime.now().astimezone()), as_json=as_json)
