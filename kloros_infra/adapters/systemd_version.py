"""Which version of systemd a machine has, from its own tool: it need not be running."""

from __future__ import annotations

import re
import subprocess

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import OLDEST_SYSTEMD

TIMEOUT_S = 10.0
# `systemd 252 (252.39-1~deb12u2)`; systemctl(1), --version.
_FIRST_LINE = re.compile(r"systemd (?P<version>\d+)\b")


def installed_systemd() -> int | None:
    """Give the version of systemd here; None where there is none, or it does not say."""
    try:
        done = subprocess.run(
            ("systemctl", "--version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _FIRST_LINE.match(done.stdout)
    return int(found["version"]) if found else None


def check_version(host: str, *, declared: int, installed: int | None) -> Problems:
    """Say whether units would be written for a newer systemd than the one that is to run them."""
    if installed is None or installed >= declared:
        return ()
    return (
        Diagnostic(
            code="KI557",
            summary="Older systemd than declared",
            detail=f"This machine has systemd {installed}, and units are written for {declared}: what it does not know,"
            " it would ignore, and with it a part of the sandbox.",
            hint=f"Write `systemd: {installed}` below hosts.{host}."
            if installed >= OLDEST_SYSTEMD
            else f"Update systemd: {OLDEST_SYSTEMD} is the oldest that runs these units.",
            address=f"hosts.{host}.systemd",
        ),
    )
