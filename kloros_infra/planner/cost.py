"""How long apply waits for a unit: a deadline must hold on a slow disk as well (`ir.load_time` has the estimates)."""

from __future__ import annotations

SLOWEST_READ_BYTES_PER_S = 50_000_000
"""A hard disk that something else is using as well."""
LEAST_TIMEOUT_S = 60.0


def start_timeout_s(load_bytes: int) -> float:
    """Say after how long a unit that is still not ready has failed."""
    return LEAST_TIMEOUT_S + load_bytes / SLOWEST_READ_BYTES_PER_S
