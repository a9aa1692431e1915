"""Whether the wall clock is kept right, and the time zone."""

from __future__ import annotations

import ctypes
from pathlib import Path

# From an error of 16 seconds on the kernel calls a clock unsynchronised; so does timedated (systemd,
# src/basic/time-util.c, ntp_synced).
_LARGEST_ERROR_US = 16_000_000
_ZONES = "zoneinfo"


class _Timex(ctypes.Structure):
    """The head of struct timex, and room for the rest (adjtimex(2))."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 512),
    )


def is_clock_right() -> bool:
    """Ask the kernel whether somebody keeps its clock right; raise OSError where it does not say."""
    timex = _Timex()
    # Without modes nothing is set, and everybody may ask.
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        raise OSError(ctypes.get_errno(), "the kernel does not say how its clock is")
    return bool(timex.maxerror < _LARGEST_ERROR_US)


def time_zone(root: Path = Path("/")) -> str | None:
    """Name the zone that /etc/localtime is a link to (localtime(5)); Debian keeps the name beside it."""
    link = root / "etc" / "localtime"
    if link.is_symlink():
        parts = link.readlink().parts
        return "/".join(parts[parts.index(_ZONES) + 1 :]) or None if _ZONES in parts else None
    try:
        return (root / "etc" / "timezone").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
