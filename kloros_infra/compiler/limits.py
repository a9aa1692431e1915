"""Limits of an instance's unit, derived from its weights and its placement."""

from __future__ import annotations

import math

from kloros_infra.ir.placement import CPU, Placement

MIB = 2**20

RESTART_S = 2
"""Pause before a crashed llama-server is started again."""
RESTART_LIMIT = 4
"""Starts within the interval below after which a unit stays down, and systemd says so."""
RESTART_STEPS = 3
RESTART_MAX_S = 30
"""Where systemd can do so, the pause grows to this in so many attempts: a driver that resets a card takes longer."""
RESTART_STEPS_SINCE = 254
"""systemd.service(5), RestartSteps=."""
LOAD_BASE_S = 10
SLOWEST_READ_BYTES_PER_S = 50_000_000
"""A hard disk that something else is using as well: the limit must be reached even when each load takes that long."""

CARD_BYTES = 512 * MIB
"""Host memory of one CUDA context with its pinned buffers."""


def start_limit_interval_s(weights_bytes: int, *, pause_s: int = RESTART_S) -> int:
    """Choose StartLimitIntervalSec= so that a model which fails at the end of each load is given up.

    Starts are counted within the interval (systemd.unit(5)), so it must outlast all of them together, each after the
    longest pause.
    """
    load_s = LOAD_BASE_S + math.ceil(weights_bytes / SLOWEST_READ_BYTES_PER_S)
    return (RESTART_LIMIT + 1) * (pause_s + load_s)


def memory_max_bytes(placement: Placement, *, weights_bytes: int, prompt_cache_bytes: int, headroom_bytes: int) -> int:
    """Choose MemoryMax=: all the host memory that an instance takes when nothing is wrong, in whole MiB.

    The headroom is for code, threads, the vocabulary and HTTP bodies.

    Pages of mapped weights count against the unit that reads them (Linux, cgroup-v2.rst, "Memory"), so the whole file
    is in, and below that it would thrash. llama.cpp may hold the CPU's part once more, repacked for its vector units.
    """
    on_cpu = sum(load.total_bytes for load in placement.loads if load.device == CPU)
    cards = sum(load.device != CPU for load in placement.loads)
    total = weights_bytes + on_cpu + prompt_cache_bytes + headroom_bytes + cards * CARD_BYTES
    return math.ceil(total / MIB) * MIB
