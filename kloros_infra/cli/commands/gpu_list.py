"""`kloros-infra gpu list`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kloros_infra.cli.gpu_arguments import with_site

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_site import GpuSite


@click.command("list")
@with_site
def command(site: GpuSite, *, as_json: bool) -> None:
    """Show the GPUs: which may be used and why, their memory, who else uses them; and why the active profile is.

    Shows what was noted when something changed last. Where nobody follows the GPUs, they are looked at, and nothing is
    changed.
    """
    from datetime import datetime

    from kloros_infra.cli.gpu_site import is_followed
    from kloros_infra.cli.gpu_views import list_data, list_lines, problems_in, read_list
    from kloros_infra.cli.render import show_problems

    found = read_list(site, follows=is_followed(site.where))
    if as_json:
        click.echo(json.dumps(list_data(found), indent=2))
        return
    lines = list_lines(found, datetime.now().astimezone()) if found.report.cards else ("No profile here needs a GPU.",)
    for line in lines:
        click.echo(line)
    show_problems(problems_in(found.report), {})
