"""Lockout files, as people write them and as they should not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from kloros_infra.ir.card_facts import DeclaredCard, Lockout, PolicyFile, PolicySource
from kloros_infra.topology.lockout_problems import pin_not_readable
from kloros_infra.topology.lockouts import read_lockouts, read_sources

UUID = "GPU-6a2b3c4d-0000-1111-2222-333344445555"
CARDS = (
    DeclaredCard("rtx5080", pci="0000:01:00.0"),
    DeclaredCard("rtx3060", UUID),
    DeclaredCard("1", pci="0001:07:00.0"),
)
NAME = "/etc/kloros/gpu_lockout"


def two_hours_ahead(naive: datetime) -> datetime:
    """Stand for a machine's time zone."""
    return naive.replace(tzinfo=timezone(timedelta(hours=2)))


def read(text: str) -> PolicySource:
    return read_lockouts(PolicyFile(NAME, text), CARDS, two_hours_ahead)


def locked(text: str) -> list[str]:
    source = read(text)
    assert source.problems == ()
    return [lockout.card for lockout in source.lockouts or ()]


def test_the_example_of_the_design_document_is_read_with_its_comment() -> None:
    source = read(
        """{
          "lockout_gpus": ["0"],  // GPU index 0 (5080) locked out
          "reason": "Gaming // session",
          "until": "2025-11-17T22:00:00Z"  // Unlock at 10 PM
        }"""
    )
    until = datetime(2025, 11, 17, 22, tzinfo=UTC)
    assert source == PolicySource(NAME, (Lockout("rtx5080", "Gaming // session", until),))


def test_what_may_be_left_out_may_be_left_out() -> None:
    source = read('{"lockout_gpus": ["rtx3060"]}')
    assert source.lockouts == (Lockout("rtx3060", "", None),)
    assert read('{"lockout_gpus": "rtx3060", "reason": null, "until": null}').lockouts == source.lockouts
    assert read('{"lockout_gpus": []}').lockouts == ()


def test_a_time_may_have_an_offset() -> None:
    (lockout,) = read('{"lockout_gpus": "0", "until": "2025-11-17T22:00:00+01:00"}').lockouts or ()
    assert lockout.until == datetime(2025, 11, 17, 22, tzinfo=timezone(timedelta(hours=1)))


def test_a_time_may_be_seconds_since_1970() -> None:
    for seconds in ("1763413200", '"1763413200"', "1763413200.0"):
        (lockout,) = read(f'{{"lockout_gpus": "0", "until": {seconds}}}').lockouts or ()
        assert lockout.until == datetime(2025, 11, 17, 21, tzinfo=UTC)


def until_of(text: str) -> datetime | None:
    (lockout,) = read(f'{{"lockout_gpus": "0", "until": "{text}"}}').lockouts or ()
    return lockout.until


def test_a_time_without_a_zone_is_one_of_this_machine() -> None:
    assert until_of("2025-11-17T22:00:00") == datetime(2025, 11, 17, 20, tzinfo=UTC)
    assert until_of("2025-11-17") == datetime(2025, 11, 16, 22, tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "9999-01-01T00:00:00"])
def test_what_ends_when_no_calendar_goes_on_never_ends(text: str) -> None:
    assert until_of(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00", "1970-12-31T00:00:00Z"])
def test_what_ended_before_time_began_has_ended(text: str) -> None:
    assert until_of(text) == datetime(1971, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("token", "card"),
    [
        ("rtx5080", "rtx5080"),
        (" 0000:01:00.0 ", "rtx5080"),
        ("01:00.0", "rtx5080"),
        ("00000000:01:00.0", "rtx5080"),
        (UUID.upper(), "rtx3060"),
        ("0001:07:00.0", "1"),
        ("0", "rtx5080"),
        # A card's own name wins over its place.
        ("1", "1"),
        ("2", "1"),
    ],
)
def test_a_card_is_named_as_people_name_it(token: str, card: str) -> None:
    assert locked(f'{{"lockout_gpus": ["{token}"]}}') == [card]


def test_an_index_may_be_a_number_and_a_card_is_locked_once() -> None:
    assert locked('{"lockout_gpus": [0, "rtx5080", 2]}') == ["rtx5080", "1"]
    assert locked('{"lockout_gpus": 0}') == ["rtx5080"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "EOF"),
        ('{"lockout_gpus": ["0"', "EOF"),
        ("[" * 60_000, "recursion"),
        ("{}", "lockout_gpus: Field required"),
        ('{"lockout_gpus": [true]}', "lockout_gpus.0"),
        ('{"lockout_gpus": {"0": 1}}', "lockout_gpus"),
        ('{"lockout_gpus": ["0"], "until": "22:00"}', "until"),
        ('{"lockout_gpus": ["0"], "until": "2230"}', "until: 2230 is neither a date nor seconds since 1970"),
        ('{"lockout_gpus": ["0"], "until": 20251117}', "until: 20251117 is neither"),
        ('{"lockout_gpus": ["0"], "reason": 7}', "reason"),
        ('["0"]', "object"),
    ],
)
def test_what_cannot_be_understood_is_told_and_says_nothing(text: str, what: str) -> None:
    source = read(text)
    assert source.lockouts is None
    (problem,) = source.problems
    assert (problem.code, problem.severity) == ("KI901", "warning")
    assert what in problem.detail
    assert problem.detail.startswith(NAME)


def test_a_file_that_cannot_be_read_is_told() -> None:
    (source,) = read_sources([PolicyFile(NAME, None, "Permission denied")], CARDS, two_hours_ahead)
    assert source.lockouts is None
    assert [problem.code for problem in source.problems] == ["KI900"]
    assert "Permission denied" in source.problems[0].detail
    assert "chmod a+r" in source.problems[0].hint


def test_files_that_are_too_many_are_told_once() -> None:
    (source,) = read_sources([PolicyFile("a folder", None, "too many", ("b", "c"))], CARDS, two_hours_ahead)
    assert (source.lockouts, source.others) == (None, ("b", "c"))
    (problem,) = source.problems
    assert "Remove those that nobody needs" in problem.hint


def test_a_card_that_is_not_declared_is_told_and_the_others_are_locked() -> None:
    source = read('{"lockout_gpus": ["rtx5090", "rtx3060", "9", "9", "-1", "²"]}')
    assert [lockout.card for lockout in source.lockouts or ()] == ["rtx3060"]
    assert [problem.code for problem in source.problems] == ["KI902"] * 4
    first, second, *_ = source.problems
    assert "rtx5080, rtx3060, 1" in first.detail
    assert first.hint == f"Did you mean 'rtx5080'? {second.hint}"
    assert second.hint.startswith("Name it as in models.yaml, or by UUID or PCI address, or remove the file")


def test_a_host_without_cards_has_none_to_lock() -> None:
    (problem,) = read_lockouts(PolicyFile(NAME, '{"lockout_gpus": "0"}'), (), two_hours_ahead).problems
    assert "it has none" in problem.detail


def test_a_key_that_means_nothing_is_told() -> None:
    source = read('{"lockout_gpus": "0", "untill": "2025-11-17T22:00:00Z", "by": "me"}')
    assert source.lockouts == (Lockout("rtx5080", "", None),)
    (problem,) = source.problems
    assert (problem.code, problem.hint) == ("KI903", "The keys are lockout_gpus, reason, until.")
    assert "'by', 'untill'" in problem.detail
    assert read('{"lockout_gpus": "0", "untill": 1}').problems[0].hint == "Did you mean 'until'?"


def test_a_reason_cannot_steer_the_terminal() -> None:
    (lockout,) = read('{"lockout_gpus": "0", "reason": "a\\u001b[31m\\n  b' + "c" * 500 + '"}').lockouts or ()
    assert lockout.reason.startswith("a [31m bc")
    assert len(lockout.reason) == 200


def test_a_place_is_one_of_the_list_and_that_of_a_lent_card_names_none_of_ours() -> None:
    lent = DeclaredCard("lent", pci="0000:01:00.0", is_lent=True)
    cards = (lent, *CARDS[:2])

    def named(token: str) -> PolicySource:
        return read_lockouts(PolicyFile(NAME, f'{{"lockout_gpus": [{token}]}}'), cards, two_hours_ahead)

    assert [lockout.card for lockout in named("1").lockouts or ()] == ["rtx5080"]
    # Its host has a bus of its own, so an address is of a card here.
    assert [lockout.card for lockout in named('"01:00.0"').lockouts or ()] == ["rtx5080"]
    for token in ("0", '"lent"'):
        assert named(token).lockouts == ()
        assert [problem.code for problem in named(token).problems] == ["KI902"]
    assert named("0").problems[0].detail.endswith("none of this host's cards: rtx5080, rtx3060.")


def test_a_pin_that_is_no_text_is_told_and_pins_nothing() -> None:
    problem = pin_not_readable("/etc/kloros/gpu_pin")
    assert (problem.code, problem.is_error, problem.address) == ("KI924", False, "/etc/kloros/gpu_pin")
    assert problem.detail.endswith("No profile is pinned.")
