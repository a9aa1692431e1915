"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kloros_infra.cli.wiring import ManagerChoice

Command = TypeVar("Command", bound=Callable[..., Any])


def file_option(command: Command) -> Command:
    """Add --file: which models.yaml."""
    return click.option(
        "-f",
        "--file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("models.yaml"),
        show_default=True,
        help="The models.yaml to read; its lock lies beside it.",
    )(command)


def root_option(command: Command) -> Command:
    """Add --root: where the installation lives."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("/"),
        show_default=True,
        help="Install below this folder, with the embedded supervisor; / is the machine itself, with systemd.",
    )(command)


def manager_option(command: Command) -> Command:
    """Add --manager: who runs the units."""
    return click.option(
        "--manager",
        type=click.Choice([choice.value for choice in ManagerChoice]),
        default=ManagerChoice.AUTO.value,
        show_default=True,
        help="Who runs the units: systemd for /, the embedded supervisor elsewhere.",
    )(command)


def profile_option(command: Command) -> Command:
    """Add --profile: assume a profile."""
    return click.option(
        "--profile",
        metavar="NAME",
        help="Take this profile as the active one instead of choosing by the cards that are present.",
    )(command)


def yes_option(command: Command) -> Command:
    """Add --yes: do not ask."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask before changing anything.")(command)
