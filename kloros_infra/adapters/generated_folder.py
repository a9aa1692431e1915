"""The folder that compile writes: exactly the artifact tree, nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kloros_infra.ir.artifact import Artifact, ArtifactTree, Link, TextFile


def read_tree(folder: Path) -> ArtifactTree:
    """Read every file and link below a folder; empty when there is no folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(folder)): read_artifact(path) for path in paths}


def read_artifact(path: Path) -> Artifact:
    """Read one file or link; bytes that are not UTF-8 come back as text that equals no artifact."""
    if path.is_symlink():
        return Link(os.readlink(path))
    return TextFile(path.read_text("utf-8", errors="replace"), mode_of(path))


def mode_of(path: Path) -> int:
    """Tell an executable from other files: Git keeps no more of a mode than that."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def differences(folder: Path, tree: ArtifactTree) -> tuple[str, ...]:
    """Name the paths that are missing, extra or different."""
    there = read_tree(folder)
    return tuple(sorted(path for path in there.keys() | tree.keys() if there.get(path) != tree.get(path)))


def replace_folder(folder: Path, tree: ArtifactTree) -> None:
    """Put a tree in a folder's place: written beside it first, so that an interruption leaves old or new."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir(mode=0o755)
        for path, artifact in sorted(tree.items()):
            write_artifact(fresh / path, artifact)
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)


def write_artifact(path: Path, artifact: Artifact) -> None:
    """Write one file or link, with its parents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(artifact, Link):
        path.symlink_to(artifact.target)
        return
    path.write_text(artifact.text, "utf-8")
    path.chmod(artifact.mode)
