"""How long a llama-server is expected to load: what plan shows, and what the router reckons with."""

from __future__ import annotations

EXPECTED_READ_BYTES_PER_S = 1_000_000_000
"""An NVMe disk, with the copy to the GPU; weights in the page cache load faster."""
STOP_AND_START_S = 1.0


def expected_load_s(load_bytes: int) -> float:
    """Estimate how long a unit of a healthy machine takes from start to ready."""
    return STOP_AND_START_S + load_bytes / EXPECTED_READ_BYTES_PER_S
