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
        return Link(str(path.readlink()))
    return TextFile(path.read_text("utf-8", errors="replace"), mode_of(path))


def mode_of(path: Path) -> int:
    """Tell an executable from other files: Git keeps no more of a mode than that."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def differences(folder: Path, tree: ArtifactTree) -> tuple[str, ...]:
    """Name the paths that are missing, extra or different."""
    there = read_tree(folder)
    return tuple(sorted(path for path in there.keys() | tree.keys() if there.get(path) != tree.get(path)))


def update_folder(folder: Path, tree: ArtifactTree) -> None:
    """Make a folder hold exactly a tree: each file whole or not at all, extra ones removed last."""
    for path in differences(folder, tree):
        if path in tree:
            write_artifact(folder / path, tree[path])
    for path in read_tree(folder).keys() - tree.keys():
        (folder / path).unlink()
        remove_empty_parents(folder, path)


def write_artifact(path: Path, artifact: Artifact) -> None:
    """Write one file or link in place of what is there."""
    if isinstance(artifact, TextFile):
        write_text_atomically(path, artifact.text, artifact.mode)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(artifact.target)
    fresh.replace(path)


def write_text_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a text so that a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        fresh = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            fresh.chmod(mode)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def remove_empty_parents(folder: Path, path: str) -> None:
    """Remove the folders that a removed file leaves empty."""
    for parent in (folder / path).parents:
        if parent == folder or any(parent.iterdir()):
            return
        parent.rmdir()
