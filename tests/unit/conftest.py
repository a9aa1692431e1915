"""Which tests are traced where coverage asks for it: those that together have to reach every branch of the pure rooms.

Tracing makes computing up to five times as slow. So the other tests go without it, and of these those marked
`untraced`: long ones, whose lines shorter ones have reached.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

TRACED = frozenset({"compiler", "doctor", "placement", "planner", "router", "topology", "executor"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what is traced first: what is worked out but once is then seen."""
    items.sort(key=lambda item: not _is_traced(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    tracer = sys.gettrace()
    if tracer is None or _is_traced(item):
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def _is_traced(item: pytest.Item) -> bool:
    return item.path.parent.name in TRACED and item.get_closest_marker("untraced") is None
