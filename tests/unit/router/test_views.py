"""What operators see of instances and of requests that wait."""

from __future__ import annotations

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Send, StartUnit
from kloros_infra.router.events import (
    Asked,
    CardsSeen,
    Ended,
    Outcome,
    Polled,
    StartAsked,
    StopAsked,
    Ticked,
    UnitFailed,
    UnitSeen,
    UnitStopped,
    Verdict,
)
from kloros_infra.router.instance import State
from kloros_infra.router.query import Query
from kloros_infra.router.views import InstanceView
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.unit.router.told import Told, a_model, a_table, an_instance

NAME = "small-cpu_only"


def a_core(*, idle_timeout_s: float | None = 300.0, is_pinned: bool = False) -> Core:
    upstream = an_upstream(NAME, preload=False).model_copy(
        update={"idle_timeout_s": idle_timeout_s, "is_pinned": is_pinned}
    )
    core = Core(a_routing_table(a_routed_model("small", upstream)), profile="cpu_only", now=0.0)
    core.on(Ticked(), 0.0)
    return core


def ready(core: Core, now: float = 1.0) -> Core:
    core.on(UnitSeen(NAME, is_up=True, pid=42), now)
    core.on(Ticked(), now + 1)
    core.on(Polled(NAME, Verdict.HEALTHY), now + 1)
    return core


def view(core: Core, now: float) -> InstanceView:
    (found,) = core.overview(now).instances
    return found


def ask(core: Core, id: str, now: float, *, client: str = "", priority: Priority | None = None) -> list[object]:
    return list(core.on(Asked(id, Query(model="small"), client, now + 60, priority=priority), now))


def test_an_instance_that_is_down_has_no_process_and_no_end() -> None:
    core = a_core()
    core.on(UnitSeen(NAME, is_up=False), 0.5)
    found = view(core, 2.0)
    assert (found.name, found.model_id, found.profile, found.port) == (NAME, "small", "cpu_only", 8601)
    assert (found.state, found.pid, found.used_s_ago, found.stops_in_s) == (State.STOPPED, 0, None, None)


def test_one_that_is_ready_stops_when_it_has_been_idle_for_its_time() -> None:
    core = ready(a_core())
    found = view(core, 12.0)
    assert (found.state, found.pid, found.up_s) == (State.READY, 42, 11.0)
    assert (found.used_s_ago, found.stops_in_s) == (None, 290.0)
    ask(core, "a", 12.0)
    found = view(core, 15.0)
    assert (found.in_flight, found.used_s_ago, found.stops_in_s) == (1, 0.0, 300.0)
    core.on(Ended("a", Outcome.SERVED), 20.0)
    found = view(core, 26.0)
    assert (found.in_flight, found.used_s_ago, found.stops_in_s) == (0, 6.0, 294.0)


def test_one_that_is_pinned_or_has_no_time_stays() -> None:
    assert view(ready(a_core(is_pinned=True)), 9.0).stops_in_s is None
    assert view(ready(a_core(idle_timeout_s=None)), 9.0).stops_in_s is None


def test_those_that_wait_are_listed_in_the_order_of_their_turns() -> None:
    core = ready(a_core())
    assert any(isinstance(effect, Send) for effect in ask(core, "first", 10.0))
    ask(core, "batch", 11.0, client="nightly", priority=Priority.BATCH)
    ask(core, "voice", 12.0, client="?voice", priority=Priority.VOICE)
    waiting = core.overview(15.0).waiting
    assert [(one.request_id, one.client, one.priority, one.position) for one in waiting] == [
        ("voice", "?voice", Priority.VOICE, 1),
        ("batch", "nightly", Priority.BATCH, 2),
    ]
    assert [(one.model_id, one.waited_s, one.left_s, one.attempt) for one in waiting] == [
        ("small", 3.0, 57.0, 0),
        ("small", 4.0, 56.0, 0),
    ]
    assert view(core, 15.0).queued == 2


def test_a_failure_is_told_until_an_operator_has_it_tried_again() -> None:
    core = a_core()
    core.on(UnitSeen(NAME, is_up=False), 0.5)
    assert StartUnit(NAME) in core.on(StartAsked(NAME), 1.0)
    core.on(UnitFailed(NAME, "no weights", ("cannot open model.gguf",)), 2.0)
    found = view(core, 3.0)
    assert (found.state, found.reason, found.last_lines) == (State.FAILED, "no weights", ("cannot open model.gguf",))
    assert StartUnit(NAME) in core.on(StartAsked(NAME), 4.0)
    assert view(core, 4.0).reason == ""


def test_one_that_is_to_stop_says_so() -> None:
    core = ready(a_core())
    core.on(StopAsked(NAME), 5.0)
    assert view(core, 5.0).state is State.STOPPING


def stopped_for(core: Core, now: float) -> StopCause | None:
    found = view(core, now)
    assert found.state in (State.STOPPED, State.FAILED)
    return found.stopped_for


def test_who_stopped_it_is_told() -> None:
    core = ready(a_core())
    assert view(core, 5.0).stopped_for is None
    core.on(UnitSeen(NAME, is_up=False), 6.0)
    assert stopped_for(core, 6.0) is None, "somebody else"
    core = ready(core, 10.0)
    core.on(StopAsked(NAME), 12.0)
    assert view(core, 12.0).stopped_for is None, "it still stops"
    core.on(UnitStopped(NAME), 13.0)
    assert stopped_for(core, 13.0) is StopCause.ASKED
    core = ready(core, 20.0)
    core.on(Ticked(), 330.0)
    core.on(UnitStopped(NAME), 331.0)
    assert stopped_for(core, 331.0) is StopCause.IDLE
    core = ready(core, 340.0)
    core.on(UnitFailed(NAME, "it was killed"), 350.0)
    assert stopped_for(core, 350.0) is StopCause.CRASH
    core.on(Ticked(), 352.0)
    core.on(UnitFailed(NAME, "no weights"), 353.0)
    assert stopped_for(core, 353.0) is StopCause.FAILED


def test_one_that_another_needed_the_memory_of_says_so() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", 6000)), a_model("b", an_instance("b-max", 6000))))
    told.down("b-max")
    told.up("a-max")
    told.ask("b")
    told.tell(UnitStopped("a-max"))
    causes = {one.name: one.stopped_for for one in told.core.overview(told.now).instances}
    assert causes == {"a-max": StopCause.ROOM, "b-max": None}


def test_one_that_waits_for_room_from_the_start_says_so() -> None:
    first, second = (an_instance(name, 6000, preload=True) for name in ("a-max", "b-max"))
    told = Told(a_table(a_model("a", first), a_model("b", second)))
    told.up("a-max")
    told.down("b-max")
    assert told.started == []
    causes = {one.name: one.stopped_for for one in told.core.overview(told.now).instances}
    assert causes == {"a-max": None, "b-max": StopCause.ROOM}


def test_one_that_failed_as_others_held_its_memory_waits_for_room() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True))))
    told.down("a-max")
    told.tell(CardsSeen((("one", 9000),)))
    told.tell(UnitFailed("a-max", "out of memory"))
    (found,) = told.core.overview(told.now).instances
    assert (found.state, found.stopped_for) == (State.STOPPED, StopCause.ROOM)


def test_one_that_somebody_stops_while_it_starts_was_not_stopped_here() -> None:
    told = Told(a_table(a_model("a")))
    told.down("a-max")
    told.tell(StopAsked("a-max"))
    told.ask("a")
    assert told.started == ["a-max"]
    told.tell(UnitStopped("a-max"))
    (found,) = told.core.overview(told.now).instances
    assert (found.state, found.stopped_for) == (State.STOPPED, None)
