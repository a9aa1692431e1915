"""What holds whatever happens to the cards, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.ir.card_facts import (
    CardFacts,
    CardReading,
    DeclaredCard,
    DriverReading,
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
from kloros_infra.topology.choice import FIRST_WAIT_S, LONGEST_WAIT_S
from kloros_infra.topology.decide import decide
from kloros_infra.topology.decision import Decision
from kloros_infra.topology.forecast import forecast
from kloros_infra.topology.foreign import OurUse, facts_of_cards
from kloros_infra.topology.saved_state import read_state, state_text
from kloros_infra.topology.state import TopologyState

GIB = 2**30
CARDS = ("a", "b", "c")
NEEDS = {"max": ("a", "b", "c"), "mid": ("b", "c"), "other": ("a",), "fallback": ("b",), "cpu_only": ()}
START = Now(1000.0, 1_763_000_000.0)
LONGEST_S = 2 * LONGEST_WAIT_S
# Eighths of a second are exact on both clocks, so that "a moment before" is one.
INSTANTS = st.integers(1, 8 * 900).map(lambda eighths: eighths / 8)
AMOUNTS = (0, GIB // 2, 3 * GIB // 2, 6 * GIB)
IN_THE_BAND = AMOUNTS[2]
SEVERAL = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Happening:
    """Something that changes the facts of one card, or the pin."""

    after_s: float
    card: str
    what: str
    amount: int = 0
    lasts_s: float = 0.0


@dataclass
class World:
    """The cards as they are, and all that was decided about them."""

    rules: tuple[ProfileRule, ...]
    now: Now = START
    cards: dict[str, CardFacts] = field(default_factory=lambda: {name: free(name) for name in CARDS})
    lockouts: dict[str, Lockout] = field(default_factory=dict)
    pin: str | None = None
    state: TopologyState = field(default_factory=TopologyState)
    decisions: list[tuple[Now, Decision, TopologyState]] = field(default_factory=list)

    @property
    def facts(self) -> TopologyFacts:
        source = PolicySource("a file", tuple(self.lockouts.values()))
        return TopologyFacts(self.rules, tuple(self.cards.values()), Policy((source,), self.pin))

    def decide(self) -> Decision:
        self.state, decision = decide(self.state, self.facts, self.now)
        self.decisions.append((self.now, decision, self.state))
        return decision

    def wait(self, seconds: float) -> None:
        """Let time pass, and decide whenever a decision said that it is held until then."""
        end_s = self.now.monotonic_s + seconds
        held_s = self.decide().held_until_s
        while held_s is not None and held_s <= end_s:
            assert held_s > self.now.monotonic_s
            self.now = self.now.at(held_s)
            held_s = self.decide().held_until_s
        self.now = self.now.at(end_s)

    def happen(self, one: Happening) -> None:
        self.wait(one.after_s)
        if "lock" in one.what:
            self.lock(one)
        elif "pin" in one.what:
            self.pin = list(NEEDS)[one.amount % len(NEEDS)] if one.what == "pin" else None
        else:
            self.cards[one.card] = self.changed(one)
        self.decide()

    def lock(self, one: Happening) -> None:
        match one.what:
            case "unlock":
                self.lockouts.pop(one.card, None)
            case "lock":
                self.lockouts[one.card] = Lockout(one.card, "games", None)
            case _:
                until = datetime.fromtimestamp(self.now.epoch_s, UTC) + timedelta(seconds=one.lasts_s)
                self.lockouts[one.card] = Lockout(one.card, "games", until)

    def changed(self, one: Happening) -> CardFacts:
        facts = self.cards[one.card]
        if not facts.is_present and one.what in ("used", "fault", "lost"):
            return facts
        match one.what:
            case "gone":
                return CardFacts(one.card, is_present=False)
            case "back":
                return replace(facts, is_present=True, foreign_bytes=0)
            case "used":
                return replace(facts, foreign_bytes=one.amount)
            case "fault" | "lost":
                xid = Fault(FaultKind.XID, self.now.epoch_s, 79)
                lost = Fault(FaultKind.LOST, self.now.epoch_s, is_lasting=True)
                return replace(facts, faults=(xid if one.what == "fault" else lost,))
            case _:
                return replace(facts, faults=(), cleared_epoch_s=self.now.epoch_s)

    def is_good(self, rule: ProfileRule) -> bool:
        """Say whether nothing stands in the way of a profile, with or without what was before."""
        return all(not self.is_blocked(card) and (self.cards[card].foreign_bytes or 0) <= GIB for card in rule.cards)

    def is_blocked(self, card: str) -> bool:
        lockout = self.lockouts.get(card)
        is_locked = lockout is not None and (lockout.until is None or lockout.until.timestamp() > self.now.epoch_s)
        return is_locked or not self.cards[card].is_present or bool(self.cards[card].faults)


def free(name: str) -> CardFacts:
    return CardFacts(name, is_present=True, foreign_bytes=0)


WHAT = ("gone", "back", "used", "used", "fault", "lost", "well", "lock", "lock until", "unlock", "pin", "unpin")
HAPPENINGS = st.builds(
    Happening,
    after_s=INSTANTS,
    card=st.sampled_from(CARDS),
    what=st.sampled_from(WHAT),
    amount=st.sampled_from(AMOUNTS) | st.integers(0, 4),
    lasts_s=INSTANTS,
)
HISTORIES = st.lists(HAPPENINGS, max_size=12)
WITHOUT_HANDS = HISTORIES.map(
    lambda history: [one for one in history if "lock" not in one.what and "pin" not in one.what]
)


@st.composite
def rules(draw: st.DrawFn) -> tuple[ProfileRule, ...]:
    """Draw profiles, best first, some of the usual ones."""
    names = draw(st.lists(st.sampled_from(list(NEEDS)), min_size=1, unique=True))
    regain, release = st.sampled_from((0.0, 0.5, 30.0, 60.0)), st.sampled_from((0.0, 5.0))
    return tuple(
        ProfileRule(name, NEEDS[name], regain_after_s=draw(regain), release_after_s=draw(release))
        for name in NEEDS
        if name in names
    )


def after(history: Sequence[Happening], profiles: tuple[ProfileRule, ...]) -> World:
    world = World(profiles)
    world.decide()
    for one in history:
        world.happen(one)
    return world


def steps(world: World) -> Iterator[tuple[tuple[Now, Decision, TopologyState], tuple[Now, Decision, TopologyState]]]:
    return zip(world.decisions, world.decisions[1:], strict=False)


def upgrades(world: World) -> Iterator[tuple[Now, TopologyState, Decision, Decision]]:
    order = [rule.name for rule in world.rules]
    for (_, before, state), (now, later, _) in steps(world):
        if order.index(later.profile) < order.index(before.profile):
            yield now, state, before, later


@SEVERAL
@given(first=HISTORIES, second=HISTORIES, profiles=rules(), last=st.lists(HAPPENINGS, max_size=4))
def test_the_same_facts_lead_to_the_same_profile_whatever_was_before(
    first: list[Happening], second: list[Happening], profiles: tuple[ProfileRule, ...], last: list[Happening]
) -> None:
    found = set()
    for history in (first, second):
        world = after(history, profiles)
        # The same cards in the end; between the two thresholds it counts what was before, as it should.
        world.cards = {name: replace(free(name), cleared_epoch_s=world.now.epoch_s) for name in CARDS}
        world.lockouts, world.pin = {}, None
        for one in last:
            world.happen(replace(one, amount=0 if one.amount == IN_THE_BAND else one.amount))
        world.wait(LONGEST_S)
        good = [rule.name for rule in profiles if world.is_good(rule)]
        order = [rule.name for rule in profiles]
        pinned = order.index(world.pin) if world.pin and world.pin in order else 0
        wanted = next((name for name in order[pinned:] if name in good), order[-1])
        assert world.decide().profile == wanted
        found.add(wanted)
    assert len(found) == 1


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_the_same_facts_at_the_same_instant_change_nothing(
    history: list[Happening], profiles: tuple[ProfileRule, ...]
) -> None:
    world = World(profiles)
    for one in history:
        world.happen(one)
        state, decision = world.state, world.decisions[-1][1]
        assert decide(state, world.facts, world.now) == (state, decision)
        assert read_state(state_text(state)) == state


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_a_decision_changes_when_it_says_and_not_before(
    history: list[Happening], profiles: tuple[ProfileRule, ...]
) -> None:
    world = World(profiles)
    for one in history:
        world.happen(one)
        decision = world.decisions[-1][1]
        held_s = decision.held_until_s
        just_before = world.now.monotonic_s + LONGEST_S if held_s is None else held_s - 1 / 16
        assert decide(world.state, world.facts, world.now.at(just_before))[1] == decision
        if held_s is not None:
            assert decide(world.state, world.facts, world.now.at(held_s))[1] != decision


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_a_forecast_comes_true(history: list[Happening], profiles: tuple[ProfileRule, ...]) -> None:
    world = after(history, profiles)
    active = world.decide().profile
    following = forecast(world.state, world.facts, world.now)
    before = len(world.decisions)
    world.wait(LONGEST_S)
    changes = [(one.profile, now.monotonic_s) for now, one, _ in world.decisions[before:] if one.profile != active]
    assert following == next(iter(changes), None)


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_a_card_that_is_lost_is_left_at_once(history: list[Happening], profiles: tuple[ProfileRule, ...]) -> None:
    world = World(profiles)
    for one in history:
        world.happen(one)
        decision = world.decisions[-1][1]
        needed = next(rule.cards for rule in profiles if rule.name == decision.profile)
        if any(world.is_blocked(card) for card in needed):
            assert not any(verdict.is_eligible for verdict in decision.profiles if _is_wanted(verdict.profile, world))
            assert decision.profile == profiles[-1].name


def _is_wanted(name: str, world: World) -> bool:
    order = [rule.name for rule in world.rules]
    return order.index(name) >= (order.index(world.pin) if world.pin and world.pin in order else 0)


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_a_card_that_others_use_is_left_after_its_hold(
    history: list[Happening], profiles: tuple[ProfileRule, ...]
) -> None:
    world = after(history, profiles)
    world.cards["b"] = replace(free("b"), foreign_bytes=6 * GIB)
    world.decide()
    world.wait(5.0)
    decision = world.decide()
    verdicts = {verdict.profile: verdict for verdict in decision.profiles}
    for rule in profiles:
        assert not ("b" in rule.cards and verdicts[rule.name].is_eligible)
    assert verdicts[decision.profile].is_eligible or decision.profile == profiles[-1].name


@SEVERAL
@given(history=HISTORIES, profiles=rules())
def test_profiles_change_no_more_often_than_what_they_are_chosen_by(
    history: list[Happening], profiles: tuple[ProfileRule, ...]
) -> None:
    world = after(history, profiles)
    world.wait(LONGEST_S)
    switches = sum(before.profile != later.profile for (_, before, _), (_, later, _) in steps(world))
    changes = {rule.name: 0 for rule in profiles}
    for (_, before, _), (_, later, _) in steps(world):
        for one, other in zip(before.profiles, later.profiles, strict=True):
            changes[one.profile] += one.is_eligible != other.is_eligible
    pins = sum("pin" in one.what for one in history)
    assert switches <= sum(changes.values()) + pins
    # And a profile changes no more often than something happens to its cards; what ends by itself changes twice.
    for rule in profiles:
        happened = [one for one in history if one.card in rule.cards and "pin" not in one.what]
        assert changes[rule.name] <= len(happened) + sum(one.what == "lock until" for one in happened)


@SEVERAL
@given(history=WITHOUT_HANDS, profiles=rules())
def test_changes_for_a_better_profile_are_kept_apart(
    history: list[Happening], profiles: tuple[ProfileRule, ...]
) -> None:
    world = after(history, profiles)
    world.wait(LONGEST_S)
    last_s: float | None = None
    for now, _, before, later in upgrades(world):
        # Where the active profile has lost its cards, whatever can serve does so at once.
        could_stay = next(verdict.is_eligible for verdict in later.profiles if verdict.profile == before.profile)
        assert last_s is None or not could_stay or now.monotonic_s - last_s >= FIRST_WAIT_S
        last_s = now.monotonic_s


@SEVERAL
@given(
    foreign=st.lists(st.sampled_from(AMOUNTS), min_size=1, max_size=8),
    ours=st.lists(st.sampled_from((None, 0, GIB, 14 * GIB)), min_size=8, max_size=8),
)
def test_our_own_load_changes_nothing(foreign: list[int], ours: list[int | None]) -> None:
    def seen(used: int, held: int | None, *, is_running: bool) -> TopologyFacts:
        game = Holder(7, "game", used)
        mine = (Holder(42, "llama-server", held),) if held else ()
        reading = CardReading("a", total_bytes=24 * GIB, used_bytes=used + (held or 0), processes=(game, *mine))
        use = OurUse(((42,),), {"a": ((42,),)}) if is_running else OurUse()
        cards = facts_of_cards((DeclaredCard("a"),), {"a"}, DriverReading((reading,)), use)
        return TopologyFacts((ProfileRule("max", ("a",)), ProfileRule("cpu_only", ())), cards)

    idle, busy = TopologyState(), TopologyState()
    for number, used in enumerate(foreign):
        now = START.at(START.monotonic_s + 7 * number)
        idle, without = decide(idle, seen(used, None, is_running=False), now)
        with_ours = seen(used, ours[number], is_running=bool(ours[number]))
        busy, decision = decide(busy, with_ours, now)
        assert decision == without
        # An instance that loads, of which the driver knows no process yet, says nothing about others.
        assert decide(busy, seen(9 * GIB, None, is_running=True), now)[1].profile == decision.profile
