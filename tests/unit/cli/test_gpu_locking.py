"""What `gpu lock` and its like write, what follows from it, and what they say; the agent is the command itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import click
import pytest

from kloros_infra.adapters.reconcile_lock import reconcile_lock
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.agent.records import RecordedEvent, events_text
from kloros_infra.cli.gpu_giving_up import release
from kloros_infra.cli.gpu_locking import Outcome, clear, lock, pin, unlock, unlock_named, unpin
from kloros_infra.cli.gpu_site import GpuSite, UnknownNameError, read_report
from kloros_infra.cli.gpu_taking_up import TakingUp
from kloros_infra.cli.gpu_wishes import Owner, note_cleared, write_lockout
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.card_facts import Lockout
from kloros_infra.ir.catalog import RemoteLink
from tests.gpu_sites import RTX_3060, RTX_5080, a_gpu_site, a_gpu_table, take_out
from tests.tiny_site import wait_until

NOW = datetime.now().astimezone()
IN_TWO_HOURS = NOW + timedelta(hours=2)
GAMING = Lockout("rtx5080", "gaming", None)


@pytest.fixture
def site(tmp_path: Path) -> GpuSite:
    return a_gpu_site(tmp_path)


def lockouts_of(site: GpuSite) -> dict[str, object]:
    """Read what lies in the folder of lockouts."""
    folder = site.where.root / site.where.layout.lockout_folder
    return {file.name: json.loads(file.read_text()) for file in folder.iterdir()} if folder.exists() else {}


def profile_of(site: GpuSite) -> str:
    return (site.where.root / site.where.layout.profile_file).read_text().strip()


def test_a_lock_is_a_file_in_the_designs_format_and_the_profile_follows(site: GpuSite) -> None:
    unpin(site, NOW)
    lock(site, Lockout("rtx3060", "", None), NOW, waits=True)
    assert lockouts_of(site) == {"rtx3060.json": {"lockout_gpus": ["rtx3060"], "reason": ""}}
    unlock(site, "rtx3060", Owner.LOCK, NOW)
    outcome = lock(site, Lockout("rtx5080", "gaming", IN_TWO_HOURS), NOW, waits=True)
    until = IN_TWO_HOURS.isoformat(timespec="seconds")
    assert lockouts_of(site) == {"rtx5080.json": {"lockout_gpus": ["rtx5080"], "reason": "gaming", "until": until}}
    assert profile_of(site) == "mid"
    assert outcome.words.startswith("rtx5080 is locked out until ")
    assert "`kloros-infra gpu unlock rtx5080` ends that. The profile is mid" in outcome.words
    assert not (site.where.root / site.where.layout.dirty_file).exists()


def test_the_first_lock_tells_which_profile_gives_way(site: GpuSite) -> None:
    assert pin(site, "max").report is not None
    outcome = lock(site, GAMING, NOW, waits=True)
    assert "The profile is mid now, it was max: " in outcome.words
    data = outcome.data()
    assert (data["version"], data["profile"], data["pin"], data["card"]["state"]) == (1, "mid", "max", "locked")


def test_who_does_not_wait_only_writes_and_raises_the_flag(site: GpuSite) -> None:
    outcome = lock(site, GAMING, NOW, waits=False)
    assert (outcome.report, outcome.data()["profile"], outcome.data()["card"]) == (None, None, None)
    assert (site.where.root / site.where.layout.dirty_file).exists()
    assert read_report(site.where) is None


def test_after_an_unlock_the_card_is_free_for_a_while_before_it_is_used(site: GpuSite) -> None:
    lock(site, GAMING, NOW, waits=True)
    outcome = unlock(site, "rtx5080", Owner.LOCK, NOW)
    assert lockouts_of(site) == {}
    assert outcome.words.startswith("rtx5080 is not locked out any more. It is waiting (")
    assert "If nothing changes, max follows" in outcome.words
    assert unlock(site, "rtx5080", Owner.LOCK, NOW).words == "rtx5080 is not locked out."


def test_a_card_that_is_gone_is_said_to_be(site: GpuSite) -> None:
    take_out(site.places, RTX_5080)
    lock(site, GAMING, NOW, waits=True)
    assert unlock(site, "rtx5080", Owner.LOCK, NOW).words == ("rtx5080 is not locked out any more. It is absent.")


def test_a_lockout_that_another_made_is_named_and_stays(site: GpuSite) -> None:
    single = site.where.root / site.where.layout.lockout_file
    single.parent.mkdir(parents=True)
    single.write_text('{"lockout_gpus": ["0"], "reason": "rendering", "until": "2999-01-01T00:00:00Z"}')
    lock(site, GAMING, NOW, waits=True)
    with pytest.raises(ObstacleError) as refused:
        unlock(site, "rtx5080", Owner.LOCK, NOW)
    (problem,) = refused.value.problems
    assert (problem.code, problem.detail) == ("KI919", f"rtx5080 is locked out by {single}, for: rendering.")
    assert "Remove that file" in problem.hint
    # Ours is gone all the same.
    assert lockouts_of(site) == {}
    single.write_text('{"lockout_gpus": ["0"], "until": "2001-01-01T00:00:00Z"}')
    assert unlock(site, "rtx5080", Owner.LOCK, NOW).words.startswith("rtx5080 is not locked out any more.")


def test_what_a_release_locks_out_an_unlock_does_not_undo_nor_the_other_way_round(site: GpuSite) -> None:
    lock(site, GAMING, NOW, waits=True)
    write_lockout(site, GAMING, Owner.RELEASE)
    with pytest.raises(ObstacleError) as refused:
        unlock(site, "rtx5080", Owner.RELEASE, NOW)
    assert refused.value.problems[0].hint == "`kloros-infra gpu unlock rtx5080` ends it."
    write_lockout(site, GAMING, Owner.RELEASE)
    with pytest.raises(ObstacleError) as refused:
        unlock(site, "rtx5080", Owner.LOCK, NOW)
    assert refused.value.problems[0].hint == "`kloros-infra gpu return rtx5080` ends it."
    assert unlock(site, "rtx5080", Owner.RELEASE, NOW).words.startswith("rtx5080 is not locked out any more.")


def test_a_lockout_of_models_yaml_is_lifted_there(tmp_path: Path) -> None:
    locked = RTX_5080.model_copy(update={"is_locked": True})
    site = a_gpu_site(tmp_path, a_gpu_table(locked, RTX_3060))
    with pytest.raises(ObstacleError) as refused:
        unlock(site, "rtx5080", Owner.LOCK, NOW)
    (problem,) = refused.value.problems
    assert problem.detail == "rtx5080 is locked out by models.yaml."
    assert problem.hint == "Take `lockout` from gpus.rtx5080 in models.yaml, and apply."


def test_what_a_damaged_file_said_last_keeps_a_card_locked_out(site: GpuSite) -> None:
    single = site.where.root / site.where.layout.lockout_file
    single.parent.mkdir(parents=True)
    single.write_text('{"lockout_gpus": ["rtx5080"], "reason": "rendering"}')
    lock(site, GAMING, NOW, waits=True)
    single.write_text("{")
    with pytest.raises(ObstacleError) as refused:
        unlock(site, "rtx5080", Owner.LOCK, NOW)
    (problem,) = refused.value.problems
    assert problem.code == "KI919"
    assert "What a damaged file said last stays in force" in problem.hint


def test_a_pinned_profile_is_active_until_it_is_pinned_no_more(site: GpuSite) -> None:
    assert unpin(site, NOW).words == "No profile is pinned."
    outcome = pin(site, "mid")
    assert (site.where.root / site.where.layout.pin_file).read_text() == "mid\n"
    assert outcome.words.startswith("mid is pinned until `kloros-infra gpu unpin`. The profile is mid: ")
    assert profile_of(site) == "mid"
    words = unpin(site, NOW).words
    assert words.startswith("No profile is pinned any more. The profile is m")
    assert not (site.where.root / site.where.layout.pin_file).exists()


def test_a_card_that_had_a_fault_is_cleared(site: GpuSite, tmp_path: Path) -> None:
    assert clear(site, "rtx5080", NOW).words.startswith("rtx5080 is not in quarantine")
    report_fault(site, xid=79, at=datetime.now(UTC))
    lock(site, Lockout("rtx3060", "", None), NOW, waits=True)
    assert state_of(site, "rtx5080") == "quarantined"
    outcome = clear(site, "rtx5080", datetime.now().astimezone())
    assert outcome.words.startswith("rtx5080 is not in quarantine any more.")
    assert state_of(site, "rtx5080") in ("eligible", "waiting")
    cleared = json.loads((site.where.root / site.where.layout.cleared_file).read_text())
    assert list(cleared) == ["rtx5080"]


def test_a_locked_card_of_which_nothing_was_reported_is_not_said_to_have_been_faulty(site: GpuSite) -> None:
    lock(site, GAMING, NOW, waits=True)
    assert clear(site, "rtx5080", NOW).words == (
        "What was reported of rtx5080 is of the past. It is locked (locked out: gaming)."
    )


def test_a_fault_that_is_dated_after_now_is_cleared_where_the_clock_was_set_back(site: GpuSite) -> None:
    report_fault(site, xid=79, at=datetime.now(UTC) + timedelta(hours=1))
    lock(site, Lockout("rtx3060", "", None), NOW, waits=True)
    assert state_of(site, "rtx5080") == "quarantined"
    assert clear(site, "rtx5080", datetime.now().astimezone()).words.startswith("rtx5080 is not in quarantine any more")


def test_a_fault_that_is_there_still_is_told(site: GpuSite) -> None:
    report_fault(site, xid=79, at=datetime.now(UTC) + timedelta(hours=1))
    lock(site, Lockout("rtx3060", "", None), NOW, waits=True)
    # What was remembered of it has no record to be dated by.
    (site.where.root / site.where.layout.faults_file).unlink()
    with pytest.raises(ObstacleError) as refused:
        clear(site, "rtx5080", datetime.now().astimezone())
    (problem,) = refused.value.problems
    assert (problem.code, "XID 79" in problem.detail) == ("KI921", True)


@contextmanager
def a_reconcile_that_does_not_end(site: GpuSite, *, wait_s: float = 0.05) -> Iterator[GpuSite]:
    """Hold the lock, and give the site as one on which that is waited for so long."""
    with reconcile_lock(site.where.root):
        yield replace(site, places=replace(site.places, lock_wait_s=wait_s))


def test_where_another_reconcile_does_not_end_nobody_has_looked_and_that_is_said(site: GpuSite) -> None:
    lock(site, GAMING, NOW, waits=True)
    write_lockout(site, GAMING, Owner.RELEASE)
    (site.where.root / site.where.layout.lockout_folder / "rtx5080.json").unlink()
    with a_reconcile_that_does_not_end(site) as hung:
        with pytest.raises(ObstacleError) as refused:
            unlock(hung, "rtx5080", Owner.RELEASE, NOW)
        assert refused.value.exit_code == 1
        assert refused.value.problems[0].code == "KI918"
        assert "nobody follows the GPUs, and another process has held" in refused.value.problems[0].detail
        with pytest.raises(ObstacleError) as refused:
            clear(hung, "rtx5080", NOW)
        assert (refused.value.exit_code, refused.value.problems[0].code) == (1, "KI907")


def test_a_release_that_nobody_hears_of_stops_what_runs_and_is_no_success(site: GpuSite, tmp_path: Path) -> None:
    with a_reconcile_that_does_not_end(site) as hung, pytest.raises(ObstacleError) as refused:
        release(hung, hung.card("rtx5080"), GAMING, wait_s=0.0, dev=tmp_path / "dev")
    (problem,) = refused.value.problems
    assert (refused.value.exit_code, problem.code) == (1, "KI918")
    assert "rtx5080 stays locked out, and nothing of ours runs on it now" in problem.detail


def test_what_was_looked_at_and_is_otherwise_is_not_said_to_wait_for_anybody(site: GpuSite) -> None:
    with pytest.raises(ObstacleError) as refused:
        TakingUp(site.places).shown(lambda _: False)
    (problem,) = refused.value.problems
    assert (problem.code, "the GPUs were looked at since" in problem.detail) == ("KI918", True)


def test_a_flag_that_cannot_be_raised_is_told_and_what_is_written_stays(site: GpuSite) -> None:
    (site.where.root / "run").write_text("in the way")
    with pytest.raises(ObstacleError) as refused:
        lock(site, GAMING, NOW, waits=False)
    (problem,) = refused.value.problems
    assert (problem.code, "It is written down, but the flag for it cannot be raised (" in problem.detail) == (
        "KI918",
        True,
    )
    assert list(lockouts_of(site)) == ["rtx5080.json"]


def test_who_is_interrupted_hears_what_is_written_down(site: GpuSite) -> None:
    def interrupt() -> None:
        wait_until((site.where.root / site.where.layout.dirty_file).exists)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt, daemon=True)
    with a_reconcile_that_does_not_end(site, wait_s=30.0) as hung:
        interrupting.start()
        with pytest.raises(click.ClickException, match=r"^rtx5080 is locked out\. That is written down; "):
            lock(hung, GAMING, NOW, waits=True)
    interrupting.join()
    assert list(lockouts_of(site)) == ["rtx5080.json"]


def test_what_another_command_is_writing_is_not_taken_from_it(site: GpuSite) -> None:
    folder = site.where.root / site.where.layout.lockout_folder
    folder.mkdir(parents=True)
    half = folder / ".rtx5080.json.kloros-tmp"
    half.mkdir()
    write_lockout(site, GAMING, Owner.LOCK)
    assert sorted(one.name for one in folder.iterdir()) == [half.name, "rtx5080.json"]


def test_who_keeps_the_folder_of_the_record_locked_keeps_nobody_from_clearing(site: GpuSite) -> None:
    report_fault(site, xid=79, at=datetime.now(UTC))
    folder = (site.where.root / site.where.layout.cleared_file).parent
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        note_cleared(site, "rtx5080", NOW.timestamp())
    finally:
        os.close(descriptor)
    assert (site.where.root / site.where.layout.cleared_file).exists()


def test_what_is_in_the_way_of_a_file_is_told_with_its_name(site: GpuSite) -> None:
    pinned = site.where.root / site.where.layout.pin_file
    pinned.mkdir(parents=True)
    commands: tuple[Callable[[], Outcome], ...] = (partial(pin, site, "mid"), partial(unpin, site, NOW))
    for command in commands:
        with pytest.raises(ObstacleError) as refused:
            command()
        (problem,) = refused.value.problems
        assert (problem.code, problem.detail) == ("KI917", f"{pinned} cannot be written: Is a directory.")
        assert "root" not in problem.hint
    assert [one.name for one in pinned.parent.iterdir()] == [pinned.name]


def test_a_lockout_that_another_outlasts_is_told_with_the_end_of_that(site: GpuSite) -> None:
    single = site.where.root / site.where.layout.lockout_file
    single.parent.mkdir(parents=True)
    single.write_text('{"lockout_gpus": ["0"], "until": "2999-06-01T12:00:00Z"}')
    outcome = lock(site, Lockout("rtx5080", "gaming", IN_TWO_HOURS), NOW, waits=True)
    assert outcome.words.startswith("rtx5080 is locked out until 2999-06-01 ")
    assert f", by {single} as well. `kloros-infra gpu unlock rtx5080` ends this lockout alone. " in outcome.words


def test_the_lockout_of_a_card_that_is_in_no_profile_any_more_can_be_ended(site: GpuSite) -> None:
    write_lockout(site, Lockout("gtx1080", "", None), Owner.LOCK)
    write_lockout(site, Lockout("gtx1080", "", None), Owner.RELEASE)
    assert unlock_named(site, "gtx1080", Owner.LOCK, NOW).words.startswith("gtx1080 is none of the GPUs")
    assert list(lockouts_of(site)) == ["gtx1080@release.json"]
    for token in ("gtx1080", "gtx1080@release", "../gpu_lockouts.d/gtx1080@release", ""):
        with pytest.raises(UnknownNameError):
            unlock_named(site, token, Owner.LOCK, NOW)
    unlock_named(site, "gtx1080", Owner.RELEASE, NOW)
    assert lockouts_of(site) == {}


def test_a_card_is_called_as_people_call_it(site: GpuSite) -> None:
    names = ("rtx3060", RTX_3060.uuid, "7e:00.0", "0000:7e:00.0", "1")
    assert {site.card(name or "").name for name in names} == {"rtx3060"}
    assert site.profile("mid") == "mid"
    assert site.units_on("rtx5080") == ("llama@code-max.service",)
    assert site.units_on("rtx3060") == site.units


def test_a_name_that_is_none_is_answered_with_the_likeliest(tmp_path: Path) -> None:
    lent = RTX_5080.model_copy(update={"name": "lent", "remote": RemoteLink("10.0.0.2", (50052,), 10**9)})
    site = a_gpu_site(tmp_path, a_gpu_table(lent, RTX_3060))
    with pytest.raises(UnknownNameError) as unknown:
        site.card("rtx3600")
    assert unknown.value.exit_code == 2
    assert unknown.value.problems[0].code == "KI915"
    assert unknown.value.problems[0].hint.startswith("Did you mean 'rtx3060'? ")
    with pytest.raises(UnknownNameError) as unknown:
        site.card("lent")
    assert unknown.value.problems[0].code == "KI920"
    with pytest.raises(UnknownNameError) as unknown:
        site.profile("min")
    assert (unknown.value.problems[0].code, unknown.value.problems[0].hint) == ("KI916", "Did you mean 'mid'?")


def test_places_are_those_of_the_list_which_shows_lent_cards_too(tmp_path: Path) -> None:
    lent = RTX_5080.model_copy(update={"name": "lent", "remote": RemoteLink("127.0.0.1", (1,), 10**9)})
    site = a_gpu_site(tmp_path, a_gpu_table(RTX_5080, lent, RTX_3060))
    assert (site.card("0").name, site.card("2").name) == ("rtx5080", "rtx3060")
    with pytest.raises(UnknownNameError) as refused:
        site.card("1")
    assert refused.value.problems[0].code == "KI920"
    single = site.where.root / site.where.layout.lockout_file
    single.parent.mkdir(parents=True)
    single.write_text('{"lockout_gpus": [1]}')
    report = lock(site, GAMING, NOW, waits=True).report
    assert report
    assert [(card.card, card.state == "locked") for card in report.cards if card.card != "lent"] == [
        ("rtx5080", True),
        ("rtx3060", False),
    ]


def report_fault(site: GpuSite, *, xid: int, at: datetime) -> None:
    """Write down what the driver reported, as the agent does."""
    event = RecordedEvent(card="rtx5080", xid=xid, epoch_s=at.timestamp())
    file = site.where.root / site.where.layout.faults_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(events_text((event,), boot_id()))


def state_of(site: GpuSite, card: str) -> str:
    report = read_report(site.where)
    assert report
    return next(one.state for one in report.cards if one.card == card)


def test_an_outcome_without_a_report_has_words_alone() -> None:
    assert Outcome("Done.").data()["message"] == "Done."
