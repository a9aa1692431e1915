"""Times as people write them, in the time zone of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import click
import pytest
from click.testing import CliRunner

from kloros_infra.cli.until import UNTIL, at, read_until, when

NOW = datetime.fromisoformat("2026-01-30T21:00:00+01:00")


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # POSIX TZ rules need no database of time zones: two changes of clocks a year, as in the European Union.
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("22:00", "2026-01-30T22:00:00+01:00"),
        ("22:00:30", "2026-01-30T22:00:30+01:00"),
        (" 9:30 ", "2026-01-31T09:30:00+01:00"),
        ("9:30:15", "2026-01-31T09:30:15+01:00"),
        ("21:00", "2026-01-31T21:00:00+01:00"),
        ("2h", "2026-01-30T23:00:00+01:00"),
        ("90s", "2026-01-30T21:01:30+01:00"),
        ("1.5d", "2026-02-01T09:00:00+01:00"),
        ("2026-01-31", "2026-01-31T00:00:00+01:00"),
        ("2026-07-01T22:00", "2026-07-01T22:00:00+02:00"),
        ("2026-01-31T22:00:00Z", "2026-01-31T23:00:00+01:00"),
        ("2026-01-31 22:00+03:00", "2026-01-31T20:00:00+01:00"),
    ],
)
def test_a_time_is_of_this_machines_zone(text: str, until: str) -> None:
    found = read_until(text, NOW)
    assert found == datetime.fromisoformat(until)
    assert found.isoformat() == until


def test_a_day_of_which_clocks_are_changed_has_its_own_hours() -> None:
    found = read_until("20:00", datetime.fromisoformat("2026-03-28T21:00:00+01:00"))
    assert found.isoformat() == "2026-03-29T20:00:00+02:00"


@pytest.mark.parametrize(
    ("now", "text", "until"),
    [
        # In Berlin, 2026-03-29 has no 02:30, and 2026-10-25 two.
        ("2026-03-29T01:00:00+01:00", "02:30", "2026-03-29T03:30:00+02:00"),
        ("2026-03-01T01:00:00+01:00", "2026-03-29T02:30", "2026-03-29T03:30:00+02:00"),
        ("2026-03-29T04:00:00+02:00", "03:30", "2026-03-30T03:30:00+02:00"),
        ("2026-10-25T01:00:00+02:00", "02:30", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:40:00+02:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:10:00+01:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:10:00+01:00", "2026-10-25T02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:40:00+01:00", "02:30", "2026-10-26T02:30:00+01:00"),
    ],
)
def test_times_that_clocks_leave_out_or_show_twice_are_the_next_that_can_be_meant(
    now: str, text: str, until: str
) -> None:
    assert read_until(text, datetime.fromisoformat(now)).isoformat() == until


def test_what_lasts_less_than_a_second_is_not_past_when_it_is_written() -> None:
    assert read_until("0.5s", NOW).isoformat() == "2026-01-30T21:00:01+01:00"


@pytest.mark.parametrize("text", ["9999-12-31", "9999-12-31T23:59:59-12:00"])
def test_the_end_of_the_calendar_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        read_until(text, NOW)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "10", "2026", "22.00", "-2h", "1e9d", "99999999999d", "7:5"])
def test_what_is_no_time_is_told_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time such as 22:00, 2h"):
        read_until(text, NOW)


@pytest.mark.parametrize("text", ["2026-01-30", "2026-01-30T20:59:59", "2026-01-30T20:00:00Z", "0s"])
def test_what_is_past_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is past"):
        read_until(text, NOW)


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("2026-01-30T22:00:00+01:00", "22:00"),
        ("2026-01-30T22:00:05+01:00", "22:00:05"),
        ("2026-01-30T23:30:00Z", "tomorrow 00:30"),
        ("2026-02-01T07:00:00+01:00", "2026-02-01 07:00"),
    ],
)
def test_an_instant_is_said_with_its_day_where_that_is_another(until: str, words: str) -> None:
    assert when(datetime.fromisoformat(until), NOW) == words


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("2026-01-30T22:00:00+01:00", "at 22:00"),
        ("2026-01-30T21:00:30+01:00", "at 21:00:30, in 30 s"),
        ("2026-01-30T20:59:00+01:00", "at 20:59"),
        ("2026-01-31T07:00:00+01:00", "tomorrow 07:00"),
        ("2026-02-01T07:00:00+01:00", "at 2026-02-01 07:00"),
    ],
)
def test_what_happens_soon_says_how_soon(until: str, words: str) -> None:
    assert at(datetime.fromisoformat(until), NOW) == words


def test_a_command_takes_it_and_says_what_is_none() -> None:
    @click.command()
    @click.option("--until", type=UNTIL, default=datetime.fromisoformat("2020-01-01T00:00:00Z"))
    def wait(until: datetime) -> None:
        click.echo(until.isoformat())

    assert CliRunner().invoke(wait, ["--until", "2999-01-01T00:00:00Z"]).output == "2999-01-01T01:00:00+01:00\n"
    refused = CliRunner().invoke(wait, ["--until", "soon"])
    assert (refused.exit_code, "'soon' is not a time such as" in refused.output) == (2, True)
    assert CliRunner().invoke(wait, []).output == "2020-01-01T00:00:00+00:00\n"
