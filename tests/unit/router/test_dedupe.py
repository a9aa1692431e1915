"""A request is answered once, whatever arrives twice, and the ledger stays small."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kloros_infra.router.dedupe import DOUBLE_S, AnsweredBefore, Dropped, Fresh, InUse, Kept, Ledger, Repeat


def test_a_double_tap_is_dropped_in_flight_and_afterwards() -> None:
    ledger = Ledger()
    assert ledger.arrived("a", b"m", now=0.0) == Fresh()
    assert ledger.arrived("a", b"m", now=0.15) == Dropped(is_waiting=True)
    ledger.answered("a", b"answer", now=0.2)
    assert ledger.arrived("a", b"m", now=0.3) == Dropped(is_waiting=False)


def test_a_resend_waits_for_the_answer_in_flight_and_gets_it_again_afterwards() -> None:
    ledger = Ledger()
    ledger.arrived("a", b"m ts=1", now=0.0)
    assert ledger.arrived("a", b"m ts=2", now=0.1) == Dropped(is_waiting=True)
    ledger.answered("a", b"answer", now=0.2)
    assert ledger.arrived("a", b"m ts=3", now=0.3) == Repeat(b"answer")
    assert ledger.arrived("a", b"m ts=3", now=0.4) == Dropped(is_waiting=False)
    assert ledger.arrived("a", b"m ts=1", now=0.5) == Dropped(is_waiting=False)


def test_the_same_bytes_ask_again_once_they_cannot_be_a_double() -> None:
    ledger = Ledger()
    ledger.arrived("a", b"m", now=0.0)
    ledger.answered("a", b"answer", now=0.1)
    verdicts = [ledger.arrived("a", b"m", now=tenths / 10) for tenths in range(2, 31, 2)]
    repeats = [number for number, verdict in enumerate(verdicts) if verdict == Repeat(b"answer")]
    assert repeats == [4, 9, 14], "who sends twice a second is answered once a second"
    assert {verdict for number, verdict in enumerate(verdicts) if number not in repeats} == {Dropped(False)}


def test_the_same_bytes_ask_again_at_once_where_nothing_comes_twice() -> None:
    ledger = Ledger()
    assert ledger.arrived("a", b"m", now=0.0, may_double=False) == Fresh()
    assert ledger.arrived("a", b"m", now=0.0, may_double=False) == Dropped(is_waiting=True)
    ledger.answered("a", b"busy", now=0.1, is_temporary=True)
    assert ledger.arrived("a", b"m", now=0.1, may_double=False) == Fresh()
    ledger.answered("a", b"answer", now=0.2)
    assert ledger.arrived("a", b"m", now=0.2, may_double=False) == Repeat(b"answer")
    assert ledger.arrived("a", b"m", now=0.3) == Repeat(b"answer"), "it comes in at the other door for the first time"


def test_an_id_in_flight_is_not_answered_with_another_questions_answer() -> None:
    ledger = Ledger()
    ledger.arrived("req_1", b"m1", now=0, question=b"hello?")
    assert ledger.arrived("req_1", b"m2", now=0.1, question=b"other?") == InUse()
    assert ledger.arrived("req_1", b"m2", now=0.25, question=b"other?") == Dropped(is_waiting=False), "told already"
    assert ledger.arrived("req_1", b"m2", now=0.25 + DOUBLE_S, question=b"other?") == InUse()
    assert ledger.arrived("req_1", b"m3", now=2, question=b"hello?") == Dropped(is_waiting=True)
    ledger.answered("req_1", b"hello", now=3)
    assert ledger.arrived("req_1", b"m4", now=4, question=b"hello?") == Repeat(b"hello")


def test_it_is_told_whether_an_id_is_known_and_whose_it_is() -> None:
    ledger = Ledger()
    assert (ledger.knows("a"), ledger.is_taken("a", b"q")) == (False, False)
    ledger.arrived("a", b"m", now=0, question=b"q")
    for _ in range(2):
        assert (ledger.knows("a"), ledger.is_taken("a", b"q"), ledger.is_taken("a", b"other")) == (True, False, True)
        if ledger.in_flight:
            ledger.answered("a", b"answer", now=1)


def test_many_resends_are_remembered_in_constant_space_and_the_first_message_stays() -> None:
    ledger = Ledger()
    for attempt in range(100):
        ledger.arrived("a", b"m ts=%d" % attempt, now=0.0)
    ledger.answered("a", b"answer", now=0.0)
    assert ledger.arrived("a", b"m ts=0", now=0.0) == Dropped(is_waiting=False)
    assert ledger.arrived("a", b"m ts=99", now=0.0) == Dropped(is_waiting=False)
    assert ledger.arrived("a", b"m ts=50", now=0.0) == Repeat(b"answer")


def test_ids_are_independent() -> None:
    ledger = Ledger()
    assert ledger.arrived("a", b"m", now=0.0) == Fresh()
    assert ledger.arrived("b", b"m", now=0.0) == Fresh()
    assert ledger.in_flight == 2


def test_an_answer_expires_after_its_ttl_and_a_request_in_flight_never_does() -> None:
    ledger = Ledger(ttl_s=600)
    ledger.arrived("done", b"m", now=0.0)
    ledger.arrived("slow", b"m", now=0.0)
    ledger.answered("done", b"answer", now=100.0)
    assert ledger.arrived("done", b"m2", now=699.9) == Repeat(b"answer")
    assert ledger.arrived("done", b"m3", now=700.0) == Fresh()
    assert ledger.arrived("slow", b"m2", now=1e9) == Dropped(is_waiting=True)


def test_the_oldest_answers_go_when_there_are_too_many() -> None:
    ledger = Ledger(max_answers=2)
    for name in "abc":
        ledger.arrived(name, b"m", now=0.0)
        ledger.answered(name, b"answer", now=0.0)
    assert ledger.arrived("a", b"m2", now=0.0) == Fresh()
    assert ledger.arrived("c", b"m2", now=0.0) == Repeat(b"answer")


def test_the_oldest_answers_go_when_they_take_too_much_room() -> None:
    ledger = Ledger(max_bytes=10)
    for name in "ab":
        ledger.arrived(name, b"m", now=0.0)
        ledger.answered(name, b"12345678", now=0.0)
    assert ledger.answer_bytes == 8
    assert ledger.arrived("a", b"m2", now=0.0) == Fresh()


def test_answering_what_was_not_asked_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Ledger().answered("a", b"answer", now=0.0)


IDS = st.sampled_from("abcdef")


class LedgerMachine(RuleBasedStateMachine):
    """Against a plain record of everything that ever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(ttl_s=10, max_answers=3, max_bytes=64)
        self.now = 0.0
        self.sent = 0
        self.in_flight: set[str] = set()
        self.answers: dict[str, bytes] = {}

    @rule(id=IDS)
    def ask_anew(self, id: str) -> None:
        self.sent += 1
        arrival = self.ledger.arrived(id, b"m%d" % self.sent, now=self.now)
        if id in self.in_flight:
            assert arrival == Dropped(is_waiting=True)
        elif arrival == Fresh():
            self.in_flight.add(id)
        else:
            assert arrival == Repeat(self.answers[id])

    @rule(id=IDS)
    def send_the_same_twice(self, id: str) -> None:
        self.ask_anew(id)
        assert self.ledger.arrived(id, b"m%d" % self.sent, now=self.now) == Dropped(id in self.in_flight)

    @precondition(lambda self: self.in_flight)
    @rule(size=st.integers(0, 80))
    def answer(self, size: int) -> None:
        id = min(self.in_flight)
        self.in_flight.remove(id)
        self.answers[id] = b"x" * size
        self.ledger.answered(id, self.answers[id], now=self.now)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_stays_small(self) -> None:
        assert self.ledger.answer_bytes <= 64
        assert self.ledger.in_flight == len(self.in_flight)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(IDS, st.booleans())))
def test_replaying_the_same_events_gives_the_same_verdicts(events: list[tuple[str, bool]]) -> None:
    def replay() -> list[object]:
        ledger, verdicts, open_ids = Ledger(), list[object](), set[str]()
        for at, (id, is_question) in enumerate(events):
            if is_question:
                verdicts.append(ledger.arrived(id, b"m%d" % at, now=float(at)))
                open_ids |= {id} if verdicts[-1] == Fresh() else set()
            elif id in open_ids:
                open_ids.remove(id)
                ledger.answered(id, b"answer", now=float(at))
        return verdicts

    assert replay() == replay()


def test_a_temporary_refusal_is_asked_again_but_its_double_is_not_answered() -> None:
    ledger = Ledger()
    assert ledger.arrived("a", b"first", now=0) == Fresh()
    ledger.answered("a", b"none is ready", now=0, is_temporary=True)
    assert ledger.arrived("a", b"first", now=0.15) == Dropped(is_waiting=False)
    assert ledger.arrived("a", b"first", now=1.0) == Fresh()
    ledger.answered("a", b"none is ready", now=2, is_temporary=True)
    assert ledger.arrived("a", b"again", now=3) == Fresh()
    ledger.answered("a", b"answer", now=4)
    assert ledger.arrived("a", b"once more", now=5) == Repeat(b"answer")


def test_an_answered_id_may_be_used_for_another_question() -> None:
    ledger = Ledger()
    assert ledger.arrived("req_1", b"m1", now=0, question=b"hello?") == Fresh()
    ledger.answered("req_1", b"hello", now=2)
    assert ledger.arrived("req_1", b"m3", now=3, question=b"hello?") == Repeat(b"hello")
    assert ledger.arrived("req_1", b"m4", now=4, question=b"other?") == Fresh()
    assert ledger.answer_bytes == 0


def test_what_was_answered_before_a_restart_is_answered_from_memory() -> None:
    before = Ledger()
    for id in ("a", "b", "c"):
        before.arrived(id, b"m", now=0, question=b"q")
    kept = [before.answered("a", b"answer", now=1), before.answered("b", b"busy", now=2, is_temporary=True)]
    assert kept == [Kept("a", b"q", b"answer", 1), None]
    assert list(before.kept()) == [Kept("a", b"q", b"answer", 1)]
    after = Ledger()
    after.restore(before.kept(), now=3)
    assert after.arrived("a", b"m2", now=3, question=b"q") == Repeat(b"answer")
    assert after.arrived("b", b"m2", now=3, question=b"q") == Fresh(), "a temporary refusal is no answer"
    assert after.arrived("c", b"m2", now=3, question=b"q") == Fresh(), "what was in flight is asked anew"


def test_an_answer_that_was_too_long_to_keep_is_known_to_have_been_given() -> None:
    ledger = Ledger()
    ledger.restore([Kept("a", b"q", None, 1)], now=2)
    assert ledger.arrived("a", b"m", now=3, question=b"q") == AnsweredBefore()
    assert ledger.arrived("a", b"m2", now=3, question=b"another") == Fresh()


def test_what_is_restored_is_bounded_and_ages_as_ever() -> None:
    ledger = Ledger(ttl_s=10, max_answers=2)
    ledger.restore(
        [Kept(id, b"q", b"x", at) for id, at in (("old", -20), ("a", 1), ("a", 2), ("b", 3), ("c", 1e9))], now=5
    )
    assert [kept.request_id for kept in ledger.kept()] == ["b", "c"]
    assert ledger.answer_bytes == 2
    assert ledger.arrived("c", b"m", now=16, question=b"q") == Fresh(), (
        "a clock that was set back keeps nothing for ever"
    )
