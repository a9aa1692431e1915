"""NVIDIA's kernel driver: its version, its kind, and whether its daemon runs."""

from __future__ import annotations

import re
from pathlib import Path

from kloros_infra.adapters.pci import PROCFS
from kloros_infra.doctor.facts import Driver

# "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.09  …" of the proprietary modules, and
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (…)  …" of the open ones
# (open-gpu-kernel-modules, utils.mk, NVIDSTRING).
_VERSION = re.compile(r"NVRM version:.*?Kernel Module(?: for \S+)?\s+(?P<version>\d+(?:\.\d+)+)")
_OPEN, _CLOSED = "Open Kernel Module", "Kernel Module"
# nvidia-persistenced(1); /var/run is a link to /run.
_PERSISTENCED = "nvidia-persistenced/socket"


def read_driver(procfs: Path = PROCFS, run: Path = Path("/run")) -> Driver | None:
    """Describe the driver that is loaded; None where none is.

    Raises OSError where the file is there and cannot be read, or says something else than ever.
    """
    file = procfs / "driver" / "nvidia" / "version"
    try:
        line = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    version = _VERSION.search(line)
    if version is None:
        raise OSError(0, f"it does not name a version: {line[:100]!r}", str(file))
    return Driver(
        version["version"],
        is_open=True if _OPEN in line else False if _CLOSED in line else None,
        has_persistence_daemon=(run / _PERSISTENCED).exists(),
    )
