"""`kloros-infra profile`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.ir.layout import Layout


@click.group("profile")
def command() -> None:
    """Choose the GPU profile by the cards that are present."""


def routing_option() -> click.Option:
    """Make the option that both sub-commands take."""
    return click.Option(
        ["--routing"],
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path(Layout().absolute(Layout().routing)),
        show_default=True,
        help="The routing table that compile wrote.",
    )


@command.command("show")
def show(routing: Path) -> None:
    """Print the profile that the present cards allow, and why."""
    from kloros_infra.cli.active_profile import profile_by_table

    _, (name, reason) = profile_by_table(routing)
    click.echo(f"{name}: {reason}")


@command.command("start")
def start(routing: Path) -> None:
    """Write down the profile that the present cards allow, and start its models where systemd runs them.

    kloros-profile.service calls this at boot.
    """
    from kloros_infra.cli.active_profile import profile_by_table, start_profile

    table, (name, reason) = profile_by_table(routing)
    start_profile(table, name)
    click.echo(f"{name}: {reason}")


for sub_command in (show, start):
    sub_command.params.append(routing_option())
