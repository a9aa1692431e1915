"""Whether systemd's journal is kept on the disk (systemd-journald.service(8))."""

from __future__ import annotations

from pathlib import Path

MACHINE_ID = "etc/machine-id"


def has_persistent_journal(root: Path = Path("/")) -> bool:
    """Say whether journald writes below /var/log/journal: it makes a folder there, named after the machine."""
    try:
        machine = (root / MACHINE_ID).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(machine) and (root / "var/log/journal" / machine).is_dir()
