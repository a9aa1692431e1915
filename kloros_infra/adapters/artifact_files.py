"""Read one file or link as an artifact."""

from __future__ import annotations

import stat
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import Artifact, Link, TextFile


def read_artifact(place: Path) -> Artifact | None:
    """Read what is at a place, None where nothing is; raise ObstacleError when it is neither file nor link."""
    try:
        found = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(found.st_mode):
        return Link(str(place.readlink()))
    if not stat.S_ISREG(found.st_mode):
        raise ObstacleError([_not_a_file(place)])
    # Bytes that are not UTF-8 survive a round trip, and equal no text of ours.
    return TextFile(place.read_bytes().decode("utf-8", "surrogateescape"), stat.S_IMODE(found.st_mode))


def _not_a_file(place: Path) -> Diagnostic:
    return Diagnostic(
        code="KI517",
        summary="Not a file",
        detail=f"{place} is a folder or a device, where a generated file belongs.",
        hint="Move it away.",
        address=f"file.{str(place).lstrip('/')}",
    )
