"""No file descriptor more for this process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = 3
"""The standard streams, which are open. Fewer than poll(2) is asked about fail it (EINVAL), and libzmq, which asks
about one whenever it sends, aborts the process then (signaler.cpp)."""


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Allow none but the first; those that are open above them stay so (setrlimit(2))."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FIRST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
