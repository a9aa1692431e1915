"""Which run of the kernel this is: what was noted in another one is of the past."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Give the name that the kernel gave itself at boot; random(4)."""
    return BOOT_ID.read_text(encoding="ascii").strip()
