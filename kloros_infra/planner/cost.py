"""What a change costs, in seconds: estimates for people and deadlines for apply.

An estimate says what to expect of a healthy machine; a deadline must hold on a slow disk as well.
"""

from __future__ import annotations

EXPECTED_READ_BYTES_PER_S = 1_000_000_000
"""An NVMe disk, with the copy to the GPU; weights in the page cache load faster."""
SLOWEST_READ_BYTES_PER_S = 50_000_000
"""A hard disk that something else is using as well."""
STOP_AND_START_S = 1.0
LEAST_TIMEOUT_S = 60.0


def expected_load_s(load_bytes: int) -> float:
    """Estimate how long a unit takes from start to ready."""
    return STOP_AND_START_S + load_bytes / EXPECTED_READ_BYTES_PER_S


def start_timeout_s(load_bytes: int) -> float:
    """Say after how long a unit that is still not ready has failed."""
    return LEAST_TIMEOUT_S + load_bytes / SLOWEST_READ_BYTES_PER_S
