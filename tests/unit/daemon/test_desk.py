"""The desk: who hears what, the one timer, and what is worth publishing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.request_problems import table_unreadable
from kloros_infra.router.effects import AllocationChange, Refuse, Send
from kloros_infra.router.events import Asked, Ended, Outcome, Verdict
from kloros_infra.router.query import Query, Refused
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import FakeHands, a_desk
from tests.fakes.stalling_loop import run_stalling, the_loop

TABLE = a_routing_table(a_routed_model("small", an_upstream()))


class LoopClock(SystemClock):
    """The clock of the loop that runs."""

    def now(self) -> float:
        return the_loop().time()


class Hearer:
    """Takes a request's words and keeps them."""

    def __init__(self) -> None:
        self.words: list[Send | Refuse] = []
        self.heard = asyncio.Event()

    def on_send(self, send: Send) -> None:
        self._keep(send)

    def on_continue(self, send: Send) -> None:
        self._keep(send)

    def on_refused(self, refuse: Refuse) -> None:
        self._keep(refuse)

    def _keep(self, word: Send | Refuse) -> None:
        self.words.append(word)
        self.heard.set()


def run(test: Callable[[Desk, FakeHands], Awaitable[None]]) -> None:
    async def within() -> None:
        desk, hands = a_desk(TABLE, SystemClock())
        try:
            async with asyncio.timeout(10):
                await test(desk, hands)
        finally:
            desk.close()

    asyncio.run(within())


def asked(desk: Desk, id: str, *, within_s: float = 60.0, model: str | None = None) -> Asked:
    return Asked(id, Query(model=model), "", desk.now() + within_s)


def test_what_is_free_is_given_at_once_and_the_next_waits_for_its_end() -> None:
    async def test(desk: Desk, _: FakeHands) -> None:
        first, second = Hearer(), Hearer()
        desk.ask(asked(desk, "a"), first)
        desk.ask(asked(desk, "b"), second)
        assert [type(word) for word in first.words] == [Send]
        assert second.words == []
        assert (desk.waiting, desk.queue_position("b"), desk.queue_position("a")) == (2, 1, None)
        desk.ended(Ended("a", Outcome.SERVED))
        assert [type(word) for word in second.words] == [Send]
        desk.ended(Ended("b", Outcome.SERVED))
        assert desk.waiting == 0

    run(test)


def test_who_leaves_makes_room_and_hears_nothing_more() -> None:
    async def test(desk: Desk, _: FakeHands) -> None:
        first, second = Hearer(), Hearer()
        desk.ask(asked(desk, "a"), first)
        desk.ask(asked(desk, "b"), second)
        desk.left("a")
        desk.left("a")
        assert len(second.words) == 1
        assert len(first.words) == 1
        desk.left("b")
        assert desk.waiting == 0

    run(test)


def test_the_timer_ends_the_wait_at_its_deadline() -> None:
    async def test(desk: Desk, _: FakeHands) -> None:
        first, second = Hearer(), Hearer()
        desk.ask(asked(desk, "a"), first)
        begun = desk.now()
        desk.ask(asked(desk, "b", within_s=0.1), second)
        await second.heard.wait()
        assert 0.09 < desk.now() - begun < 0.5
        (word,) = second.words
        assert isinstance(word, Refuse)
        assert word.is_temporary

    run(test)


def test_what_nobody_serves_is_refused_at_once() -> None:
    async def test(desk: Desk, _: FakeHands) -> None:
        hearer = Hearer()
        desk.ask(asked(desk, "a", model="nothing"), hearer)
        (word,) = hearer.words
        assert isinstance(word, Refuse)
        assert word.problem.code == "KI801"
        assert desk.waiting == 0
        assert isinstance(desk.find(Query(model="nothing")), Refused)

    run(test)


def test_an_attempt_that_failed_goes_on_or_is_over() -> None:
    async def test(desk: Desk, hands: FakeHands) -> None:
        before, after = Hearer(), Hearer()
        desk.ask(asked(desk, "a"), before)
        assert desk.failed(Ended("a", Outcome.BROKEN), has_begun=False), "it waits for another attempt"
        await until(lambda: len(before.words) == 2)
        desk.ended(Ended("a", Outcome.SERVED))
        desk.ask(asked(desk, "b"), after)
        await after.heard.wait()
        desk.began("b")
        assert not desk.failed(Ended("b", Outcome.BROKEN), has_begun=True)
        assert desk.waiting == 0
        assert [allocated.change for allocated in hands.allocations].count(AllocationChange.CREATED) in (0, 3)

    run(test)


def test_only_what_is_not_a_figure_is_worth_publishing() -> None:
    async def test(desk: Desk, hands: FakeHands) -> None:
        told = desk.outline()
        desk.ask(asked(desk, "a"), Hearer())
        assert desk.outline() == told
        assert desk.health()["runtimes"][0]["active_requests"] == 1
        desk.changed.clear()
        desk.note_problem(table_unreadable("routing.json", "it is torn"))
        assert desk.changed.is_set()
        assert desk.outline() != told
        assert desk.health()["problem"]["code"] == "KI813"
        desk.note_problem(None)
        assert "problem" not in desk.health()
        assert desk.outline() == told
        hands.verdicts["small-cpu_only"] = Verdict.LOADING
        desk.found_loading(desk.find(Query()).choices[0].targets[0])  # type: ignore[union-attr]  # it is known
        assert desk.outline() != told

    run(test)


def test_another_table_is_read_from_at_once() -> None:
    async def test(desk: Desk, _: FakeHands) -> None:
        other = a_routing_table(
            a_routed_model("other", an_upstream("other-cpu_only", port=8609)), profiles=("cpu_only",)
        )
        desk.replace_table(other)
        assert desk.table is other
        desk.take_state("cpu_only", None)
        assert desk.profile == "cpu_only"

    run(test)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - with the deadline of the test
        await asyncio.sleep(0.005)


def test_after_a_pause_of_this_process_what_came_meanwhile_counts_before_what_is_overdue() -> None:
    async def test() -> None:
        desk, _ = a_desk(TABLE, LoopClock())
        first, second = Hearer(), Hearer()
        desk.ask(asked(desk, "a"), first)
        desk.ask(asked(desk, "b", within_s=30.0), second)
        the_loop().lost_s += 38.0
        the_loop().call_later(0.01, desk.ended, Ended("a", Outcome.SERVED))
        async with asyncio.timeout(5):
            await second.heard.wait()
        assert [type(word) for word in second.words] == [Send]
        desk.close()

    run_stalling(test())
