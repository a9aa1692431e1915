"""Each station's time is counted once, and the shares make a whole."""

from __future__ import annotations

import pytest

from kloros_infra.cli.stopwatch import StationTime, Stopwatch, shares, time_lines

TIMES = (StationTime("compose", 0.75), StationTime("values", 0.25))


def test_a_station_ends_where_the_next_begins() -> None:
    watch = Stopwatch()
    assert watch.times() == ()
    for station in ("compose", "values", "compose"):
        watch.begin(station)
    times = watch.times()
    assert [one.station for one in times] == ["compose", "values"]
    assert all(one.seconds >= 0 for one in times)


def test_shares_are_of_the_whole() -> None:
    assert shares(TIMES) == (0.75, 0.25)
    assert shares((StationTime("compose", 0.0),)) == (0.0,)
    assert sum(shares(TIMES)) == pytest.approx(1)


def test_times_are_a_table_with_the_whole_at_its_end() -> None:
    assert time_lines(TIMES) == (
        "compose      750.0 ms   75.0%",
        "values       250.0 ms   25.0%",
        "all         1000.0 ms  100.0%",
    )
