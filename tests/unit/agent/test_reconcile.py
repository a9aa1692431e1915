"""One look at the cards, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from kloros_infra.agent.facts import Sight
from kloros_infra.agent.reconcile import MOST_ROUNDS, considered, reconcile
from kloros_infra.agent.records import RecordedEvent, cleared_text, events_text
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_facts import FaultKind, Holder
from kloros_infra.ir.routing import RoutedCard, RoutingTable
from tests.fakes.agent_world import GIB, LAYOUT, UNIT, KilledError, World, a_table

CARDS = "asked rtx5080 rtx3060"
OURS = Holder(42, "llama-server", 12 * GIB)
GAME = Holder(7, "game", 9 * GIB)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def stamps(world: World) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (world.root / "run/kloros").iterdir()}


def seen(world: World) -> Sight:
    """Reconcile, and give what was seen, as an agent remembers it."""
    outcome = reconcile(world.outside)
    assert outcome.sight
    world.done_since()
    return outcome.sight


def test_the_memory_is_written_before_the_profile_and_then_it_is_followed(world: World) -> None:
    outcome = reconcile(world.outside)
    assert (world.profile, outcome.before, outcome.is_switched) == ("max", None, True)
    assert world.done == [
        CARDS,
        "wrote gpu_topology.json",
        "wrote gpu_cards.json",
        "wrote gpu_profile",
        "told the router",
        "started max",
        "wrote gpu_topology.json",
        "unlocked",
    ]
    assert world.memory.followed == "max"


def test_where_nothing_has_changed_nothing_is_written(world: World) -> None:
    reconcile(world.outside)
    before = stamps(world)
    world.done_since()
    world.later(5.0)
    assert not reconcile(world.outside).is_switched
    assert world.done == [CARDS, "unlocked"]
    assert stamps(world) == before


def test_a_card_that_vanishes_is_followed_at_once(world: World) -> None:
    reconcile(world.outside)
    world.done_since()
    world.there.remove("rtx5080")
    outcome = reconcile(world.outside)
    assert (world.profile, outcome.before) == ("mid", "max")
    assert [one for one in world.done if not one.startswith("wrote")] == [
        "told the router",
        "started mid",
        "asked rtx3060",
        "unlocked",
    ]
    assert [(card.card, card.state) for card in world.report.cards] == [("rtx5080", "absent"), ("rtx3060", "eligible")]


def test_one_that_comes_back_waits_and_the_report_says_for_how_long(world: World) -> None:
    world.there.remove("rtx5080")
    reconcile(world.outside)
    world.there.add("rtx5080")
    world.later(10.0)
    outcome = reconcile(world.outside)
    assert world.profile == "mid"
    assert outcome.held_until_s == world.now.monotonic_s + 30.0
    assert world.report.next_profile == "max"
    assert world.report.next_epoch_s == pytest.approx(world.now.epoch_s + 30.0)
    text = (world.root / LAYOUT.cards_file).read_text()
    world.later(5.0)
    reconcile(world.outside)
    # The clocks have jittered, and the times have not.
    assert (world.root / LAYOUT.cards_file).read_text() == text
    world.later(25.0)
    assert reconcile(world.outside).is_switched
    assert world.profile == "max"
    assert world.report.since_epoch_s == world.now.epoch_s


def test_the_flag_is_taken_away_before_anything_is_looked_at(world: World) -> None:
    world.say(LAYOUT.dirty_file, "")
    world.flags_left = 1
    reconcile(world.outside)
    assert [one for one in world.done if "dirty" in one or "asked" in one] == [
        "removed dirty",
        CARDS,
        "removed dirty",
        CARDS,
    ]


def test_a_flag_that_is_raised_again_and_again_is_left_to_the_next_one(world: World) -> None:
    world.flags_left = 100
    outcome = reconcile(world.outside)
    assert world.done.count(CARDS) == MOST_ROUNDS
    assert world.exists(LAYOUT.dirty_file)
    # What was active before is what was so before the first round.
    assert outcome.before is None


def test_a_table_that_is_read_in_the_second_round_tells_what_was_active_then(world: World) -> None:
    reconcile(world.outside)
    world.there.remove("rtx5080")
    half_written = Diagnostic(code="KI801", summary="", detail="", hint="")
    tables: list[RoutingTable | Diagnostic] = [a_table(), half_written, a_table()]

    def table() -> RoutingTable | Diagnostic:
        read = tables.pop(0)
        if read is half_written:
            world.say(LAYOUT.dirty_file, "")
        return read

    outcome = reconcile(replace(world.outside, table=table))
    assert (outcome.before, outcome.report and outcome.report.profile) == ("max", "mid")


@pytest.mark.parametrize("writes", range(5))
def test_a_reconcile_that_is_killed_is_made_up_for_by_the_next(world: World, writes: int) -> None:
    reconcile(world.outside)
    world.there.remove("rtx5080")
    world.writes_left = writes
    with pytest.raises(KilledError):
        reconcile(world.outside)
    world.writes_left = None
    reconcile(world.outside)
    assert (world.profile, world.report.profile, world.memory.state.profile) == ("mid", "mid", "mid")
    assert "started mid" in world.done
    assert world.memory.followed == "mid"
    world.done_since()
    reconcile(world.outside)
    assert world.done == ["asked rtx3060", "unlocked"]


def test_a_target_that_could_not_be_started_is_started_by_the_next(world: World) -> None:
    world.is_target_started = False
    reconcile(world.outside)
    assert world.memory.followed is None
    world.is_target_started = True
    reconcile(world.outside)
    assert world.done.count("started max") == 2
    assert world.memory.followed == "max"


def test_without_an_installation_there_is_nothing_to_do(world: World) -> None:
    world.table = None
    world.say(LAYOUT.dirty_file, "")
    outcome = reconcile(world.outside)
    assert (outcome.report, [(one.code, one.is_error) for one in outcome.problems]) == (None, [("KI906", False)])
    assert world.done == ["removed dirty"]


def test_a_table_that_cannot_be_read_is_told(world: World) -> None:
    world.table = Diagnostic(code="KI801", summary="", detail="", hint="")
    outcome = reconcile(world.outside)
    assert (outcome.report, outcome.problems) == (None, (world.table,))


def test_the_memory_of_another_boot_holds_nobody_back(world: World) -> None:
    world.there.remove("rtx5080")
    reconcile(world.outside)
    world.there.add("rtx5080")
    world.boot_id = "boot-2"
    world.done_since()
    reconcile(world.outside)
    assert world.profile == "max"
    assert "started max" in world.done


def test_the_router_is_told_of_a_card_that_the_active_profile_does_not_need(world: World) -> None:
    world.there.remove("rtx5080")
    world.say(LAYOUT.pin_file, "cpu_only\n")
    reconcile(world.outside)
    world.done_since()
    world.say(f"{LAYOUT.lockout_folder}/rtx3060.json", json.dumps({"lockout_gpus": ["rtx3060"], "reason": "gaming"}))
    reconcile(world.outside)
    assert (world.profile, world.report.pin) == ("cpu_only", "cpu_only")
    assert world.report.cards[1].state == "locked"
    assert "told the router" in world.done
    assert "started cpu_only" not in world.done


def test_a_profile_that_somebody_else_wrote_does_not_stay(world: World) -> None:
    reconcile(world.outside)
    world.say(LAYOUT.profile_file, "cpu_only\n")
    outcome = reconcile(world.outside)
    assert (world.profile, outcome.before) == ("max", "cpu_only")


def by_lockout_file(world: World) -> None:
    world.say(LAYOUT.lockout_file, json.dumps({"lockout_gpus": ["0"]}))


def by_models_yaml(world: World) -> None:
    world.table = a_table(locked={"rtx5080"})


def by_report(world: World) -> None:
    event = RecordedEvent(card="rtx5080", xid=79, epoch_s=world.now.epoch_s)
    world.say(LAYOUT.faults_file, events_text([event], world.boot_id))


def by_absence(world: World) -> None:
    world.there.remove("rtx5080")


@pytest.mark.parametrize("lose", [by_lockout_file, by_models_yaml, by_report, by_absence])
def test_a_loss_is_followed_before_the_driver_is_asked(world: World, lose: Callable[[World], None]) -> None:
    before = seen(world)
    lose(world)
    reconcile(world.outside, before)
    first_question = next(index for index, one in enumerate(world.done) if one.startswith("asked"))
    assert world.done.index("told the router") < world.done.index("started mid") < first_question
    assert world.profile == "mid"
    assert world.done.count("told the router") == 1


def test_what_is_won_waits_for_what_the_driver_says(world: World) -> None:
    world.there.remove("rtx5080")
    before = seen(world)
    world.there.add("rtx5080")
    reconcile(world.outside, before)
    world.later(40.0)
    world.used_bytes["rtx5080"], world.holders["rtx5080"] = 9 * GIB, (GAME,)
    outcome = reconcile(world.outside, before)
    assert world.profile == "mid"
    # The game began unseen: it was there before the card was given out.
    assert outcome.report
    assert [one.name for one in outcome.report.cards[0].holders] == ["game"]


def test_what_is_ours_is_nobody_elses(world: World) -> None:
    world.used_bytes["rtx5080"] = 12 * GIB
    world.holders["rtx5080"] = (OURS,)
    world.families = {UNIT: {41, 42}}
    reconcile(world.outside)
    assert (world.profile, world.report.cards[0].foreign_mib, world.report.cards[0].used_mib) == ("max", 0, 12288)


def test_while_nobody_can_say_what_is_ours_nobody_uses_anything(world: World) -> None:
    world.used_bytes["rtx5080"] = 12 * GIB
    world.holders["rtx5080"] = (OURS,)
    world.families = None
    reconcile(world.outside)
    assert (world.profile, world.report.cards[0].foreign_mib) == ("max", None)


def test_a_game_has_the_card_left(world: World) -> None:
    reconcile(world.outside)
    world.used_bytes["rtx5080"], world.holders["rtx5080"] = 9 * GIB, (GAME,)
    outcome = reconcile(world.outside)
    assert world.profile == "max"
    assert outcome.held_until_s == world.now.monotonic_s + 2.0
    world.later(2.0)
    reconcile(world.outside)
    assert (world.profile, world.report.cards[0].state, world.report.cards[0].foreign_mib) == ("mid", "taken", 9216)


def test_cleared_faults_are_of_the_past(world: World) -> None:
    by_report(world)
    reconcile(world.outside)
    assert world.report.cards[0].state == "quarantined"
    world.later(10.0)
    world.say(LAYOUT.cleared_file, cleared_text({"rtx5080": world.now.epoch_s}))
    reconcile(world.outside)
    assert world.report.cards[0].state == "waiting"


@pytest.mark.parametrize("kind", [FaultKind.LOST, FaultKind.RESET_REQUIRED])
def test_a_card_that_was_lost_and_answers_again_was_reset(world: World, kind: FaultKind) -> None:
    by_report(world)
    world.later(1.0)
    world.faults["rtx5080"] = kind
    reconcile(world.outside)
    assert world.report.cards[0].state == "quarantined"
    world.later(10.0)
    world.is_stale = True
    del world.faults["rtx5080"]
    reconcile(world.outside)
    assert world.report.cards[0].state == "quarantined"
    world.is_stale = False
    reconcile(world.outside)
    assert (world.profile, world.report.cards[0].state) == ("mid", "waiting")
    world.later(30.0)
    reconcile(world.outside)
    assert world.profile == "max"


def test_a_card_that_was_lost_and_answers_again_was_reset_also_where_the_clock_was_set_back(world: World) -> None:
    world.faults["rtx5080"] = FaultKind.LOST
    reconcile(world.outside)
    world.now = replace(world.now, epoch_s=world.now.epoch_s - 5000)
    del world.faults["rtx5080"]
    reconcile(world.outside)
    assert world.report.cards[0].state == "waiting"


def test_a_lockout_that_ends_at_a_time_without_a_zone_is_one_of_this_machine(world: World) -> None:
    until = datetime.fromtimestamp(world.now.epoch_s + 600)  # as people write it here
    world.say(LAYOUT.lockout_file, json.dumps({"lockout_gpus": ["rtx5080"], "until": until.isoformat()}))
    outcome = reconcile(world.outside)
    assert (world.profile, outcome.problems) == ("mid", ())
    assert world.report.cards[0].until_epoch_s == pytest.approx(world.now.epoch_s + 600)


def test_a_card_of_which_an_event_was_reported_stays_in_quarantine(world: World) -> None:
    by_report(world)
    for _ in range(2):
        world.later(100.0)
        reconcile(world.outside)
        assert world.report.cards[0].state == "quarantined"


def test_what_is_wrong_is_in_the_report(world: World) -> None:
    world.say(LAYOUT.lockout_file, "{")
    world.say(LAYOUT.pin_file, "maxx")
    world.trouble = "there is no NVIDIA driver"
    outcome = reconcile(world.outside)
    assert sorted(one.code for one in outcome.problems) == ["KI901", "KI904", "KI909"]
    assert [one.code for one in world.report.problems] == [one.code for one in outcome.problems]
    assert {one.severity for one in world.report.problems} == {"warning"}
    assert world.report.pin == "maxx"


def test_other_hardware_is_in_the_report_and_followed_without_the_lock(world: World) -> None:
    world.hardware_changes = ("rtx5080 has 24 GiB",)
    reconcile(world.outside)
    assert world.report.hardware_changes == ("rtx5080 has 24 GiB",)
    assert world.done[-2:] == ["unlocked", "followed rtx5080 has 24 GiB"]


def test_considering_writes_nothing(world: World) -> None:
    report, is_remembered = considered(world.outside, a_table())
    assert (report.profile, is_remembered, world.done) == ("max", False, [CARDS])
    reconcile(world.outside)
    world.there.remove("rtx5080")
    report, is_remembered = considered(world.outside, a_table())
    assert (report.profile, is_remembered, world.profile) == ("mid", True, "max")


def test_cards_that_are_away_are_not_asked_about(world: World) -> None:
    world.there.clear()
    reconcile(world.outside)
    assert (world.profile, world.report.problems) == ("cpu_only", ())
    assert not [one for one in world.done if one.startswith("asked")]


def test_a_card_that_no_profile_needs_may_be_locked_out_as_well(world: World) -> None:
    unused = RoutedCard(name="gt710", uuid=None, pci="0000:09:00.0")
    world.table = a_table().model_copy(update={"unused_cards": (unused,)})
    world.say(LAYOUT.lockout_file, json.dumps({"lockout_gpus": ["gt710", "0000:09:00.0", "2"]}))
    outcome = reconcile(world.outside)
    assert (world.profile, outcome.problems) == ("max", ())


def test_a_pin_that_cannot_be_read_is_told(world: World) -> None:
    (world.root / LAYOUT.pin_file).mkdir(parents=True)
    outcome = reconcile(world.outside)
    assert (world.profile, world.report.pin) == ("max", None)
    assert [(one.code, one.address) for one in outcome.problems] == [("KI924", f"/{LAYOUT.pin_file}")]
    assert outcome.problems[0].detail.endswith("No profile is pinned.")


def test_before_the_driver_is_asked_holders_are_who_they_were(world: World) -> None:
    world.used_bytes["rtx3060"], world.holders["rtx3060"] = 12 * GIB, (OURS, Holder(3, "Xorg", None))
    world.families = {UNIT: {42}}
    before = seen(world)
    by_absence(world)
    world.holders_told.clear()
    reconcile(world.outside, before)
    # The router is told of the loss alone, and reads the report then.
    assert world.holders_told == [1]
