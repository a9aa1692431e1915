"""`kloros-infra gpu pin`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kloros_infra.cli.gpu_arguments import echo_outcome, profile_argument, with_site

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("pin")
@profile_argument
@with_site
def command(site: GpuSite, profile: str, *, as_json: bool) -> None:
    """Have PROFILE active whenever its GPUs may be used, and else the best one below it, until `gpu unpin`."""
    from kloros_infra.cli.gpu_locking import pin

    echo_outcome(pin(site, site.profile(profile)), as_json=as_json)
