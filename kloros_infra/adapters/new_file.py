"""A file that appears whole or not at all, and never in place of another."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kloros_infra.adapters.generated_folder import write_text_atomically
from kloros_infra.adapters.output_file import write_output
from kloros_infra.adapters.synced_files import sync_folder
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError


def write_new_file(path: Path, text: str, *, replace: bool) -> None:
    """Write a text; raise ObstacleError (KI560), and change nothing, where another file would have to give way."""
    if replace:
        write_output(path, text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder) / path.name
        write_text_atomically(fresh, text)
        try:
            # link(2) fails where the name is taken, also by a link to nowhere; rename(2) would replace what is there.
            path.hardlink_to(fresh)
        except FileExistsError as error:
            raise ObstacleError([already_there(path)]) from error
    sync_folder(path.parent)


def already_there(path: Path) -> Diagnostic:
    """Say that a file is not overwritten."""
    return Diagnostic(
        code="KI560",
        summary="File is there already",
        detail=f"{path} exists, and nothing was written.",
        hint="Name another with --output, see what would be written with --print, or replace it with --force.",
    )
