"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kloros_infra.cli.wiring import ManagerChoice


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """A time as people write it: `90`, `60s`, `5m`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a time such as 60s or 5m.", param, ctx)
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


DURATION = Duration()

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


def host_option(command: Command) -> Command:
    """Add --host: for which of the hosts in the file."""
    return click.option(
        "--host",
        metavar="NAME",
        help="This machine is that host of models.yaml, which lends its cards: its RPC servers alone belong here.",
    )(command)


def detected_option(command: Command) -> Command:
    """Add --detected: take the cards as they are there."""
    return click.option(
        "--detected",
        is_flag=True,
        help="Take UUID, PCI address and memory of the declared GPUs as this machine has them.",
    )(command)


def wait_option(command: Command) -> Command:
    """Add --wait: for how long another apply is waited for."""
    return click.option(
        "--wait",
        type=DURATION,
        default=0.0,
        metavar="TIME",
        help="Wait as long for another apply to end, such as 30s or 5m; without it, exit 5 at once.",
    )(command)


def yes_option(command: Command) -> Command:
    """Add --yes: do not ask."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask before changing anything.")(command)


def no_cache_option(command: Command) -> Command:
    """Add --no-cache: work everything out anew."""
    return click.option(
        "--no-cache", is_flag=True, help="Compile everything anew, and keep nothing of it for later compiles."
    )(command)
