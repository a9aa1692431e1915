"""Which tests are traced where coverage asks for it: those that together have to reach every branch of the pure rooms.

Tracing makes computing up to five times as slow. So the other tests go without it, and of these those marked
`untraced`: long ones, whose lines shorter ones have reached.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

TRACED = frozenset({"compiler", "placement", "planner", "router", "executor", "cli"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    tracer = sys.gettrace()
    if tracer is None or (item.path.parent.name in TRACED and item.get_closest_marker("untraced") is None):
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
