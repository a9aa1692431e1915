"""Files that ship with the code: inside the package of a wheel, beside it in a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped_folder(name: str, package: Path = PACKAGE) -> Path:
    """Find a shipped folder, in the package or else beside it."""
    packaged = package / name
    return packaged if packaged.is_dir() else package.parent / name


def read_templates(package: Path = PACKAGE) -> Mapping[str, str]:
    """Read the unit templates' texts by file name."""
    folder = shipped_folder("templates", package)
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.j2"))}


def examples_folder() -> Path:
    """Find the example projects."""
    return shipped_folder("examples")
