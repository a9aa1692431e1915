"""How long each station of a run takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True, slots=True)
class StationTime:
    """The time that one station took."""

    station: str
    seconds: float


class Stopwatch:
    """Notes when stations begin; one ends where the next begins."""

    def __init__(self) -> None:
        self._began: list[tuple[str, float]] = []

    def begin(self, station: str) -> None:
        """Say that a station begins."""
        self._began.append((station, perf_counter()))

    def times(self) -> tuple[StationTime, ...]:
        """Give each station's time until now, in the order in which they began first."""
        ends = [*(at for _, at in self._began), perf_counter()][1:]
        totals: dict[str, float] = {}
        for (station, began), ended in zip(self._began, ends, strict=True):
            totals[station] = totals.get(station, 0.0) + ended - began
        return tuple(StationTime(station, seconds) for station, seconds in totals.items())


def shares(times: Sequence[StationTime]) -> tuple[float, ...]:
    """Give each station's share of the whole, from 0 to 1."""
    whole = sum(one.seconds for one in times)
    return tuple(one.seconds / whole if whole else 0.0 for one in times)


def time_lines(times: Sequence[StationTime]) -> tuple[str, ...]:
    """Write times as a table with a last line for the whole."""
    rows = [(one.station, one.seconds, share) for one, share in zip(times, shares(times), strict=True)]
    rows.append(("all", sum(one.seconds for one in times), 1.0))
    width = max(len(station) for station, _, _ in rows)
    return tuple(f"{station:<{width}}  {seconds * 1000:>9.1f} ms  {share:>6.1%}" for station, seconds, share in rows)
