"""Times without a zone, on a machine whose clocks change twice a year."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from kloros_infra.adapters.local_time import local_time


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As POSIX writes it, so that no database of zones is needed (tzset(3)).
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("naive", "instant"),
    [
        (datetime(2026, 1, 30, 22), datetime(2026, 1, 30, 21, tzinfo=UTC)),
        (datetime(2026, 7, 30, 22), datetime(2026, 7, 30, 20, tzinfo=UTC)),
        # Clocks skip from 02:00 to 03:00, so this is 03:30.
        (datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        # They show 02:30 twice: what lasts until then lasts until the second one.
        (datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_one_of_this_machine(naive: datetime, instant: datetime) -> None:
    assert local_time(naive) == instant
    assert local_time(naive).tzinfo is not None
