"""Which code is running: what it works out may differ from what other code worked out of the same files."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kloros_infra import __version__
from kloros_infra.adapters.templates import PACKAGE

ROOMS = ("compiler", "ir", "placement")
"""The rooms that a compile runs in, beside the modules at the top of the package."""
LIBRARIES = ("jinja2", "pydantic", "pydantic_core", "pyyaml")


def code_digest(package: Path = PACKAGE) -> str:
    """Digest what a compile runs: our modules as they are on disk, the libraries' versions, and Python's."""
    whole = hashlib.sha256()
    for name in (__version__, sys.version, *(f"{one} {_version(one)}" for one in LIBRARIES)):
        whole.update(f"{name}\n".encode())
    for module in _modules(package):
        data = module.read_bytes()
        whole.update(f"{module.relative_to(package)} {len(data)}\n".encode())
        whole.update(data)
    return whole.hexdigest()


def _version(library: str) -> str:
    """Give a library's version; one that does not come with its metadata is taken to stay as it is."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def _modules(package: Path) -> Iterator[Path]:
    for folder in (package, *(package / room for room in ROOMS)):
        yield from sorted(folder.glob("*.py"))
