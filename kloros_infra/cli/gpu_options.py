"""Options that `gpu` commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kloros_infra.adapters.pci import PROCFS, SYSFS

Command = TypeVar("Command", bound=Callable[..., Any])


def facts_options(command: Command) -> Command:
    """Add --sysfs and --procfs, which are for tests: where the kernel's trees are."""
    place = click.Path(path_type=Path, file_okay=False)
    command = click.option("--sysfs", type=place, default=SYSFS, hidden=True)(command)
    return click.option("--procfs", type=place, default=PROCFS, hidden=True)(command)
