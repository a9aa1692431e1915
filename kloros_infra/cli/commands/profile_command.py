"""`kloros-infra profile`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.ir.layout import Layout


@click.group("profile")
def command() -> None:
    """Show which GPU profile the cards allow, or choose it anew."""


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
    """Print the profile that the cards allow now, and why; write nothing.

    Lockouts, faults, others' use of the cards, a pin and the times to hold count, as they do for the agent.
    """
    from kloros_infra.cli.active_profile import profile_by_table

    _, (name, reason) = profile_by_table(routing)
    click.echo(f"{name}: {reason}")


@command.command("start")
def start(routing: Path) -> None:
    """Look at the cards once, and write down the profile that they allow, for the router to follow.

    kloros-profile.service calls this at boot.
    """
    from kloros_infra.cli.active_profile import start_profile
    from kloros_infra.cli.render import show_problems

    outcome = start_profile(routing)
    show_problems(outcome.problems, {})
    if outcome.report is not None:
        click.echo(f"{outcome.report.profile}: {outcome.report.reason}")


for sub_command in (show, start):
    sub_command.params.append(routing_option())
