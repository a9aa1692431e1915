"""Sizes and durations as people read them."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """Write a size in decimal units, as disks and hubs do."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def seconds_text(seconds: float) -> str:
    """Write a duration roughly, as estimates are."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def amount_text(amount: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
