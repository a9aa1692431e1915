"""The unit templates: inside the package of a wheel, beside it in a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def read_templates(package: Path = PACKAGE) -> Mapping[str, str]:
    """Read the template texts by file name, from `templates/` in the package or else beside it."""
    packaged = package / "templates"
    folder = packaged if packaged.is_dir() else package.parent / "templates"
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.j2"))}
