"""Which profile is active, and what is said about it: down at once, up slowly."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.card_facts import (
    CardFacts,
    Fault,
    FaultKind,
    Holder,
    Lockout,
    Now,
    Policy,
    PolicySource,
    ProfileRule,
    TopologyFacts,
)
from kloros_infra.topology.decide import decide
from kloros_infra.topology.decision import CardState, Decision
from kloros_infra.topology.forecast import forecast
from kloros_infra.topology.saved_state import read_state, state_text
from kloros_infra.topology.state import History, TopologyState

GIB = 2**30
RULES = (
    ProfileRule("max", ("rtx5080", "rtx3060")),
    ProfileRule("mid", ("rtx3060",)),
    ProfileRule("cpu_only", ()),
)
EPOCH_S = datetime(2025, 11, 17, 20, tzinfo=UTC).timestamp()
LOCKED_BY_A = PolicySource("/etc/d/a.json", (Lockout("rtx5080", "gaming", None),))
STAYS, NOTHING = "What it said last stays in force.", "Nothing is locked out by it so far."
UNCLEAR = Diagnostic(code="KI901", summary="", detail="It is no JSON.", hint="", severity=Severity.WARNING)
XID_79 = Fault(FaultKind.XID, EPOCH_S, 79)


class Machine:
    """A machine whose clock goes on as a test says."""

    def __init__(self, rules: tuple[ProfileRule, ...] = RULES) -> None:
        self.rules = rules
        self.now = Now(100.0, EPOCH_S)
        self.cards = {name: CardFacts(name, is_present=True, foreign_bytes=0) for name in ("rtx5080", "rtx3060")}
        self.policy = Policy()
        self.state = TopologyState()
        self.decide()

    @property
    def facts(self) -> TopologyFacts:
        return TopologyFacts(self.rules, tuple(self.cards.values()), self.policy)

    def decide(self) -> Decision:
        self.state, self.decision = decide(self.state, self.facts, self.now)
        return self.decision

    def after(self, seconds: float) -> str:
        self.now = self.now.at(self.now.monotonic_s + seconds)
        return self.decide().profile

    def set(self, card: str = "rtx5080", **changes: object) -> str:
        self.cards[card] = replace(self.cards[card], **changes)  # type: ignore[arg-type]
        return self.decide().profile

    def lock(self, *lockouts: Lockout, pin: str | None = None) -> str:
        self.policy = Policy((PolicySource("a file", lockouts),), pin)
        return self.decide().profile

    def verdict(self, card: str = "rtx5080") -> tuple[CardState, str]:
        return next((one.state, one.reason) for one in self.decision.cards if one.card == card)

    def flap(self) -> None:
        """Take the card away and give it back; it is eligible again and held back at most."""
        self.set(is_present=False)
        self.set(is_present=True)
        self.after(30.0)


def test_at_boot_nothing_is_waited_for() -> None:
    machine = Machine()
    assert machine.decision.profile == "max"
    assert machine.decision.reason == "'max' has its cards rtx5080, rtx3060."
    assert machine.decision.held_until_s is None
    assert machine.verdict() == (CardState.ELIGIBLE, "free")


def test_at_boot_a_card_that_others_use_is_left_alone() -> None:
    machine = Machine()
    machine.state = TopologyState()
    assert machine.set(foreign_bytes=6 * GIB) == "mid"
    machine.state = TopologyState()
    assert machine.set(foreign_bytes=2 * GIB) == "max"


def test_a_card_that_vanishes_is_left_at_once_and_regained_when_it_has_stayed() -> None:
    machine = Machine()
    assert machine.set(is_present=False) == "mid"
    assert machine.decision.reason == "'mid' has its cards rtx3060; 'max' lacks rtx5080 (absent)."
    machine.after(100.0)
    assert machine.set(is_present=True) == "mid"
    assert machine.verdict() == (CardState.WAITING, "free, regained after 30 s of that")
    assert machine.decision.held_until_s == machine.now.monotonic_s + 30
    assert machine.after(29.875) == "mid"
    assert machine.after(0.125) == "max"


def test_a_card_that_goes_again_while_it_is_waited_for_starts_anew() -> None:
    machine = Machine()
    machine.set(is_present=False)
    machine.set(is_present=True)
    machine.after(20.0)
    machine.set(is_present=False)
    machine.set(is_present=True)
    assert machine.after(29.0) == "mid"
    assert machine.after(1.0) == "max"


def test_a_game_of_two_seconds_is_a_game_and_a_blip_is_none() -> None:
    machine = Machine()
    game = (Holder(4711, "game.exe", 6 * GIB),)
    assert machine.set(foreign_bytes=6 * GIB, holders=game) == "max"
    assert machine.verdict() == (
        CardState.ELIGIBLE,
        "others use 6.0 GiB (game.exe, process 4711), left after 2 s of that",
    )
    machine.after(1.875)
    assert machine.set(foreign_bytes=0, holders=()) == "max"
    machine.after(10.0)
    assert machine.set(foreign_bytes=6 * GIB, holders=game) == "max"
    assert machine.after(2.0) == "mid"
    assert machine.verdict() == (
        CardState.TAKEN,
        "others use 6.0 GiB (game.exe, process 4711), regained below 1.0 GiB",
    )


def test_between_the_thresholds_it_stays_as_it_is() -> None:
    machine = Machine()
    machine.set(foreign_bytes=3 * GIB // 2)
    assert machine.after(1000.0) == "max"
    machine.set(foreign_bytes=6 * GIB)
    machine.after(2.0)
    machine.set(foreign_bytes=3 * GIB // 2)
    assert machine.after(1000.0) == "mid"
    # Regaining starts anew where others take more than the lower threshold meanwhile.
    machine.set(foreign_bytes=GIB // 2)
    machine.after(20.0)
    machine.set(foreign_bytes=3 * GIB // 2)
    machine.set(foreign_bytes=GIB // 2)
    assert machine.after(29.0) == "mid"
    assert machine.after(1.0) == "max"


def test_memory_that_nobody_uses_is_below_a_threshold_of_nothing() -> None:
    strict = replace(RULES[0], leave_above_bytes=0, take_below_bytes=0)
    machine = Machine((strict, *RULES[1:]))
    machine.set(foreign_bytes=1)
    assert machine.after(2.0) == "mid"
    machine.set(foreign_bytes=0)
    assert machine.after(30.0) == "max"


def test_a_longer_hold_than_the_shortest_counts() -> None:
    patient = replace(RULES[0], release_after_s=60.0)
    machine = Machine((patient, *RULES[1:]))
    machine.set(foreign_bytes=6 * GIB)
    assert machine.after(59.0) == "max"
    assert machine.after(1.0) == "mid"


def test_what_is_not_known_of_others_is_what_was_known_last() -> None:
    machine = Machine()
    machine.set(foreign_bytes=None)
    assert machine.after(10.0) == "max"
    machine.set(foreign_bytes=6 * GIB)
    machine.set(foreign_bytes=None)
    assert machine.after(2.0) == "mid"
    assert machine.after(1000.0) == "mid"
    # A card that was gone is another one, or has lost what was on it.
    machine.set(is_present=False)
    machine.set(is_present=True)
    assert machine.verdict() == (CardState.WAITING, "present, regained after 30 s of that")
    assert machine.after(30.0) == "max"


def test_where_it_was_never_known_nobody_is_taken_to_use_a_card() -> None:
    machine = Machine()
    machine.state = TopologyState()
    assert machine.set(foreign_bytes=None) == "max"
    assert machine.verdict() == (CardState.ELIGIBLE, "present")


def test_changes_for_a_better_profile_are_kept_apart_and_further_each_time_one_does_not_last() -> None:
    machine = Machine()
    machine.flap()
    assert machine.decision.profile == "max"
    for wait_s in (600.0, 1200.0, 2400.0):
        upgraded_s = machine.now.monotonic_s
        machine.flap()
        assert machine.decision.profile == "mid"
        assert machine.decision.reason.endswith(
            "'max' has its cards again, but changes for a better profile are kept apart."
        )
        assert machine.decision.held_until_s == upgraded_s + wait_s
        assert forecast(machine.state, machine.facts, machine.now) == ("max", upgraded_s + wait_s)
        assert machine.after(wait_s - 30.125) == "mid"
        assert machine.after(0.125) == "max"


def test_no_card_is_kept_waiting_for_more_than_an_hour() -> None:
    machine = Machine()
    history = History(upgraded_s=90.0, not_before_s=95.0, flaps_s=tuple(map(float, range(60, 90))), is_standing=True)
    machine.state = replace(machine.state, history=history)
    machine.flap()
    assert machine.decision.held_until_s == 90 + 3600


def test_no_profile_is_taken_that_others_are_about_to_end() -> None:
    machine = Machine()
    machine.flap()
    machine.flap()
    assert machine.after(569.0) == "mid"
    machine.set(foreign_bytes=6 * GIB)
    assert machine.after(1.5) == "mid"
    assert machine.decision.reason == (
        "'mid' has its cards rtx3060; 'max' may lose rtx5080 (others use 6.0 GiB, left after 2 s of that)."
    )
    assert machine.set(foreign_bytes=0) == "max"


def test_what_did_not_last_is_forgotten_after_an_hour() -> None:
    machine = Machine()
    machine.flap()
    machine.after(3600.0)
    machine.flap()
    assert machine.decision.profile == "max"
    machine.after(3600.0)
    machine.set(is_present=False)
    assert len(machine.state.history.flaps_s) == 1


def test_one_better_profile_after_the_other_takes_its_time() -> None:
    machine = Machine()
    machine.set("rtx3060", is_present=False)
    assert machine.set(is_present=False) == "cpu_only"
    machine.set("rtx3060", is_present=True)
    assert machine.after(30.0) == "mid"
    machine.set(is_present=True)
    assert machine.after(269.0) == "mid"
    assert machine.after(31.0) == "max"


def test_a_lockout_acts_at_once_and_what_is_given_back_does_not_wait_for_others() -> None:
    machine = Machine()
    machine.flap()
    assert machine.lock(Lockout("rtx5080", "gaming", None)) == "mid"
    assert machine.verdict() == (CardState.LOCKED, "locked out: gaming")
    # It was wanted: so nothing has flapped.
    assert machine.state.history.flaps_s == ()
    assert machine.decision.held_until_s is None
    machine.after(5.0)
    machine.lock()
    assert machine.after(29.0) == "mid"
    assert machine.after(1.0) == "max"
    # Once it is used again it waits as any other.
    machine.flap()
    assert machine.decision.profile == "mid"


def test_a_card_that_was_used_while_it_was_locked_out_is_regained_below_the_lower_threshold() -> None:
    machine = Machine()
    machine.lock(Lockout("rtx5080", "gaming", None))
    machine.set(foreign_bytes=6 * GIB)
    machine.set(foreign_bytes=3 * GIB // 2)
    machine.lock()
    assert machine.after(1000.0) == "mid"
    machine.set(foreign_bytes=0)
    assert machine.after(30.0) == "max"


def test_what_was_given_back_counts_until_its_profile_has_all_its_cards() -> None:
    machine = Machine(RULES[:2])
    machine.flap()
    assert machine.lock(Lockout("rtx3060", "", None)) == "mid"
    machine.lock()
    assert machine.after(30.0) == "max"


def test_losing_one_card_after_the_other_counts_once() -> None:
    machine = Machine()
    machine.flap()
    assert machine.set(is_present=False) == "mid"
    assert machine.set("rtx3060", is_present=False) == "cpu_only"
    assert len(machine.state.history.flaps_s) == 1


def test_a_lockout_ends_when_it_says() -> None:
    machine = Machine()
    machine.flap()
    until = datetime(2025, 11, 17, 20, 1, tzinfo=UTC)
    assert machine.lock(Lockout("rtx5080", "", until)) == "mid"
    assert machine.verdict() == (CardState.LOCKED, "locked out until 2025-11-17 20:01+00:00")
    assert machine.decision.held_until_s == machine.now.monotonic_s + (until.timestamp() - machine.now.epoch_s)
    machine.now = Now(machine.now.monotonic_s + 60, until.timestamp())
    assert machine.decide().profile == "mid"
    assert machine.verdict()[0] is CardState.WAITING
    assert machine.after(30.0) == "max"


def test_of_several_lockouts_the_last_to_end_counts() -> None:
    machine = Machine()
    early = Lockout("rtx5080", "backup", datetime(2025, 11, 17, 21, tzinfo=UTC))
    late = Lockout("rtx5080", "gaming", datetime(2025, 11, 17, 22, tzinfo=UTC))
    machine.lock(early, late, Lockout("rtx3060", "", None))
    assert machine.verdict()[1] == "locked out until 2025-11-17 22:00+00:00: gaming"
    machine.lock(late, early)
    assert machine.verdict()[1] == "locked out until 2025-11-17 22:00+00:00: gaming"


def test_policy_that_cannot_be_understood_leaves_what_was() -> None:
    machine = Machine()
    locked = PolicySource("/etc/d/a.json", (Lockout("rtx5080", "gaming", None),))
    other = PolicySource("/etc/d/b.json", (Lockout("rtx3060", "", None),))
    machine.policy = Policy((locked, other))
    assert machine.decide().profile == "cpu_only"
    machine.policy = Policy((PolicySource("/etc/d/a.json", None),))
    machine.decide()
    assert (machine.verdict()[0], machine.verdict("rtx3060")[0]) == (CardState.LOCKED, CardState.WAITING)
    # Of a folder that cannot be listed, all files stay.
    machine.policy = Policy((PolicySource("/etc/d/", None), PolicySource("/etc/new", None)))
    machine.decide()
    assert machine.verdict()[0] is CardState.LOCKED
    assert read_state(state_text(machine.state)) == machine.state
    machine.policy = Policy()
    machine.decide()
    assert machine.verdict()[0] is CardState.WAITING


def test_a_fault_keeps_a_card_out_until_somebody_clears_it() -> None:
    machine = Machine()
    assert machine.set(faults=(XID_79,)) == "mid"
    assert machine.verdict() == (CardState.QUARANTINED, "in quarantine: XID 79, fallen off the bus")
    machine.set(faults=())
    assert machine.after(10_000.0) == "mid"
    machine.set(cleared_epoch_s=machine.now.epoch_s)
    assert machine.after(30.0) == "max"
    # It is of the past, although the journal still has it.
    machine.set(faults=(XID_79,))
    assert machine.decision.profile == "max"


def test_a_card_that_was_gone_is_out_of_quarantine() -> None:
    machine = Machine()
    machine.set(faults=(XID_79,))
    machine.after(1.0)
    machine.set(is_present=False)
    machine.set(is_present=True)
    assert machine.after(30.0) == "max"


def test_a_state_that_lasts_counts_whatever_was_cleared() -> None:
    machine = Machine()
    lost = Fault(FaultKind.LOST, EPOCH_S, is_lasting=True)
    reset = Fault(FaultKind.RESET_REQUIRED, EPOCH_S - 1, is_lasting=True)
    machine.set(faults=(lost, reset))
    assert machine.verdict()[1] == "in quarantine: the driver has lost it"
    machine.after(5.0)
    machine.set(cleared_epoch_s=machine.now.epoch_s)
    machine.after(1000.0)
    assert machine.verdict()[1] == "in quarantine: the driver has lost it"
    machine.set(faults=(reset,))
    assert machine.verdict()[1] == "in quarantine: the driver wants it reset"
    machine.set(faults=())
    assert machine.after(30.0) == "max"


def test_the_latest_fault_is_the_one_that_has_to_be_cleared() -> None:
    machine = Machine()
    machine.set(faults=(XID_79,))
    later = replace(XID_79, since_epoch_s=EPOCH_S + 10, xid=48)
    machine.after(10.0)
    machine.set(faults=(XID_79, later))
    assert machine.verdict()[1] == "in quarantine: XID 48, double-bit memory error"
    machine.set(faults=(), cleared_epoch_s=EPOCH_S + 5)
    assert machine.after(100.0) == "mid"


def test_a_wall_clock_that_was_set_back_pardons_nothing_to_come() -> None:
    machine = Machine()
    machine.set(cleared_epoch_s=EPOCH_S + 10_000)
    machine.after(1.0)
    assert machine.set(faults=(replace(XID_79, since_epoch_s=machine.now.epoch_s + 1),)) == "mid"


def test_a_fault_that_is_dated_after_now_can_be_cleared_and_a_new_one_counts() -> None:
    machine = Machine()
    ahead = replace(XID_79, since_epoch_s=EPOCH_S + 5000)
    assert machine.set(faults=(ahead,)) == "mid"
    machine.set(cleared_epoch_s=ahead.since_epoch_s)
    assert machine.after(30.0) == "max"
    machine.set(faults=(replace(XID_79, since_epoch_s=EPOCH_S + 5000.001),))
    assert machine.verdict()[0] is CardState.QUARANTINED


def test_a_fault_that_is_dated_after_now_is_of_the_past_once_the_card_was_gone() -> None:
    machine = Machine()
    machine.set(faults=(replace(XID_79, since_epoch_s=EPOCH_S + 5000),))
    machine.set(is_present=False)
    machine.set(is_present=True)
    assert machine.after(30.0) == "max"


def test_a_fault_that_is_remembered_alone_can_be_cleared_whatever_its_date() -> None:
    machine = Machine()
    machine.set(faults=(Fault(FaultKind.LOST, EPOCH_S + 5000, is_lasting=True),))
    machine.set(faults=())
    assert machine.verdict()[0] is CardState.QUARANTINED
    machine.set(cleared_epoch_s=EPOCH_S + 5000)
    assert machine.after(30.0) == "max"


@pytest.mark.parametrize(
    ("before", "unclear", "follows"),
    [
        ((), PolicySource("/etc/d/a.json", None), NOTHING),
        (
            (PolicySource("/etc/d/a.json", ()),),
            PolicySource("/etc/d/a.json", None),
            NOTHING,
        ),
        ((LOCKED_BY_A,), PolicySource("/etc/d/a.json", None), STAYS),
        ((LOCKED_BY_A,), PolicySource("/etc/d/", None), STAYS),
        ((LOCKED_BY_A,), PolicySource("/etc/d", None, others=("/etc/d/a.json",)), STAYS),
        (
            (LOCKED_BY_A,),
            PolicySource("/etc/d", None, others=("/etc/d/b.json",)),
            NOTHING,
        ),
    ],
)
def test_it_is_told_what_follows_from_a_file_that_is_not_understood(
    before: tuple[PolicySource, ...], unclear: PolicySource, follows: str
) -> None:
    machine = Machine()
    machine.policy = Policy(before)
    machine.decide()
    machine.policy = Policy((replace(unclear, problems=(UNCLEAR,)),))
    (problem,) = machine.decide().problems
    assert problem.detail == f"It is no JSON. {follows}"
    assert (machine.verdict()[0] is CardState.LOCKED) == (follows == STAYS)


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 68, 109, 62])
def test_what_a_program_does_wrong_is_no_fault_of_the_card(xid: int) -> None:
    assert Machine().set(faults=(replace(XID_79, xid=xid),)) == "max"


@pytest.mark.parametrize("xid", [48, 63, 64, 74, 79, 94, 95, 119, 120])
def test_what_a_card_does_wrong_is_one(xid: int) -> None:
    assert Machine().set(faults=(replace(XID_79, xid=xid),)) == "mid"


def test_a_pinned_profile_is_active_as_long_as_it_has_its_cards() -> None:
    machine = Machine()
    assert machine.lock(pin="mid") == "mid"
    assert (
        machine.decision.reason == "'mid' is pinned and has its cards rtx3060; 'max' is better than the pinned 'mid'."
    )
    assert machine.state.history == History()
    assert machine.set("rtx3060", is_present=False) == "cpu_only"
    assert machine.decision.reason == (
        "'cpu_only' needs no card; 'max' lacks rtx3060 (absent); 'mid' is pinned but lacks rtx3060 (absent)."
    )
    machine.set("rtx3060", is_present=True)
    assert machine.after(30.0) == "mid"
    # It was active since it was pinned, so it waits as any other when it does not stay.
    machine.set("rtx3060", is_present=False)
    machine.set("rtx3060", is_present=True)
    assert machine.after(30.0) == "cpu_only"
    assert machine.after(570.0) == "mid"
    assert machine.lock() == "mid"
    assert machine.after(1000.0) == "max"


def test_a_pin_does_not_wait() -> None:
    machine = Machine()
    machine.flap()
    machine.flap()
    assert machine.decision.profile == "mid"
    assert machine.lock(pin="max") == "max"
    machine.flap()
    assert machine.decision.profile == "mid"


def test_a_pin_on_a_profile_without_its_cards_does_not_wait_once_it_has_them() -> None:
    machine = Machine()
    machine.flap()
    machine.set(is_present=False)
    assert machine.lock(pin="max") == "mid"
    machine.set(is_present=True)
    assert machine.after(30.0) == "max"


def test_a_pin_on_a_profile_that_is_not_there_has_no_effect() -> None:
    machine = Machine()
    assert machine.lock(pin="maxx") == "max"
    (problem,) = machine.decision.problems
    assert (problem.code, problem.hint) == ("KI904", "Did you mean 'max'?")
    machine.lock(pin="tiny")
    assert machine.decision.problems[0].hint == "The profiles are max, mid, cpu_only."


def test_where_no_profile_has_its_cards_the_last_is_active_and_the_first_that_can_serve_follows() -> None:
    machine = Machine((ProfileRule("big", ("rtx5080",)), ProfileRule("small", ("rtx3060",))))
    machine.flap()
    machine.set(is_present=False)
    assert machine.set("rtx3060", is_present=False) == "small"
    assert machine.decision.reason == (
        "no profile has all its cards, and 'small' is the last: rtx3060 (absent); 'big' lacks rtx5080 (absent)."
    )
    machine.set(is_present=True)
    # Changes are kept apart only while the active profile can serve.
    assert machine.after(30.0) == "big"


def test_profiles_that_are_no_longer_there_are_forgotten() -> None:
    machine = Machine()
    machine.rules = (ProfileRule("solo", ("rtx5080",)), ProfileRule("none", ()))
    assert machine.decide().profile == "solo"


def test_a_card_of_which_nothing_is_known_is_absent_and_one_that_nobody_needs_is_told_as_well() -> None:
    machine = Machine((ProfileRule("max", ("rtx5080", "titan")), ProfileRule("cpu_only", ())))
    assert machine.decision.profile == "cpu_only"
    assert machine.verdict("titan") == (CardState.ABSENT, "absent")
    assert machine.verdict("rtx3060") == (CardState.ELIGIBLE, "no profile needs it")
    machine.set("rtx3060", is_present=False)
    assert machine.verdict("rtx3060") == (CardState.ABSENT, "absent")


def test_a_card_may_be_good_enough_for_one_profile_alone() -> None:
    generous = ProfileRule("mid", ("rtx5080",), leave_above_bytes=8 * GIB, take_below_bytes=8 * GIB)
    machine = Machine((RULES[0], generous, RULES[2]))
    machine.set(foreign_bytes=6 * GIB)
    assert machine.after(2.0) == "mid"
    assert machine.verdict() == (
        CardState.TAKEN,
        "not for 'max': others use 6.0 GiB, regained below 1.0 GiB; eligible for 'mid'",
    )


def test_times_of_another_boot_do_not_hold_anything_for_ever() -> None:
    machine = Machine()
    machine.set(is_present=False)
    machine.set(is_present=True)
    machine.now = Now(5.0, EPOCH_S + 1000)
    machine.decide()
    assert machine.after(30.0) == "max"
    history = History(upgraded_s=1e9, not_before_s=1e9 + 600, flaps_s=(1e9,), is_standing=True)
    machine.state = replace(machine.state, history=history)
    machine.flap()
    assert machine.decision.profile == "mid"
    assert machine.decision.held_until_s == 35 + 600
    machine.state = replace(machine.state, history=replace(machine.state.history, not_before_s=1e9))
    machine.decide()
    assert machine.decision.held_until_s == machine.now.monotonic_s + 3600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "state": {}}',
        '{"version": 1, "state": {"profile": 7}}',
        '{"version": 1, "state": {}, "more": 1}',
        '{"version": 1, "state": {"history": {"not_before_s": Infinity}}}',
        b"\xff",
    ],
)
def test_a_damaged_state_is_a_fresh_one(text: str | bytes) -> None:
    assert read_state(text) == TopologyState()
