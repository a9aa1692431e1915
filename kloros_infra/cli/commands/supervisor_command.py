"""`kloros-infra supervisor`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("supervisor")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the units.")
def command(root: Path) -> None:
    """Run the embedded service manager for one root in the foreground; apply starts it by itself."""
    import logging

    from kloros_infra.supervisor.server import run_supervisor

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(run_supervisor(root))
