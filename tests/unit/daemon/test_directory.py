"""The directory: what is ready, what a new table keeps, what llm.health says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.directory import REMEMBERED_DECISIONS, RoutingDirectory
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.select import Query, Refused, Selected
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import StillClock

CPU = an_upstream("small-cpu_only", port=8601)
GPU = an_upstream("small-max", port=8602)
SMALL = a_routed_model("small", GPU, CPU)


def a_directory(clock: StillClock, table: RoutingTable | None = None, *, profile: str = "cpu_only") -> RoutingDirectory:
    return RoutingDirectory(table or a_routing_table(SMALL), profile=profile, clock=clock)


def active(directory: RoutingDirectory) -> int:
    runtimes = directory.health()["runtimes"]
    return sum(runtime["active_requests"] for runtime in runtimes)


def test_nothing_is_chosen_before_it_was_polled() -> None:
    directory = a_directory(StillClock())
    decision = directory.choose(Query(model="small"))
    assert isinstance(decision, Refused)
    assert decision.is_temporary
    assert directory.due() == (CPU,)


def test_a_healthy_upstream_is_chosen_and_polled_again_later() -> None:
    clock = StillClock()
    directory = a_directory(clock)
    directory.polled(CPU, is_healthy=True)
    decision = directory.choose(Query(model="small"))
    assert isinstance(decision, Selected)
    assert decision.upstream == CPU
    assert directory.due() == ()
    clock.seconds += 5
    assert directory.due() == (CPU,)


def test_an_upstream_that_could_not_be_reached_is_not_chosen_until_it_is_healthy() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    directory.started(CPU)
    directory.finished(CPU, reached=False)
    assert isinstance(directory.choose(Query()), Refused)
    directory.polled(CPU, is_healthy=True)
    assert isinstance(directory.choose(Query()), Selected)


def test_a_new_table_keeps_readiness_and_requests_in_flight_of_what_stays() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    directory.started(CPU)
    other = a_routed_model("other", an_upstream("other-cpu_only", port=8609))
    directory.replace_table(a_routing_table(SMALL.model_copy(update={"display_name": "Smaller"}), other))
    assert isinstance(directory.choose(Query(model="small")), Selected)
    assert isinstance(directory.choose(Query(model="other")), Refused)
    assert active(directory) == 1


def test_an_upstream_that_moved_is_a_new_one_and_the_old_one_may_finish() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    directory.started(CPU)
    moved = an_upstream("small-cpu_only", port=9999)
    directory.replace_table(a_routing_table(a_routed_model("small", moved)))
    assert isinstance(directory.choose(Query()), Refused)
    directory.polled(moved, is_healthy=True)
    directory.finished(CPU, reached=False)
    assert isinstance(directory.choose(Query()), Selected)
    assert active(directory) == 0


def test_events_of_an_upstream_that_left_change_nothing() -> None:
    directory = a_directory(StillClock())
    directory.changed.clear()
    directory.polled(an_upstream("gone-cpu_only", port=1), is_healthy=True)
    directory.started(an_upstream("gone-cpu_only", port=1))
    directory.finished(an_upstream("gone-cpu_only", port=1), reached=False)
    assert not directory.changed.is_set()


def test_a_request_that_comes_back_after_two_new_tables_is_still_counted_out() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    directory.started(CPU)
    directory.replace_table(a_routing_table(a_routed_model("other", an_upstream("other-cpu_only", port=8609))))
    directory.replace_table(a_routing_table(SMALL))
    assert active(directory) == 1
    directory.finished(CPU, reached=True)
    assert active(directory) == 0


@given(st.lists(st.sampled_from(["good", "bad", "started", "reached", "failed"])))
def test_requests_in_flight_are_counted_and_never_negative(events: list[str]) -> None:
    directory, expected = a_directory(StillClock()), 0
    for event in events:
        match event:
            case "good" | "bad":
                directory.polled(CPU, is_healthy=event == "good")
            case "started":
                directory.started(CPU)
                expected += 1
            case _:
                directory.finished(CPU, reached=event == "reached")
                expected = max(0, expected - 1)
        assert active(directory) == expected


def test_a_request_that_was_answered_changes_only_the_count() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    before = directory.health()
    directory.changed.clear()
    directory.started(CPU)
    directory.finished(CPU, reached=True)
    assert directory.health() == before
    assert not directory.changed.is_set()


def test_what_was_selected_before_does_not_outlive_readiness_profile_or_table() -> None:
    directory, query = a_directory(StillClock()), Query(model="small")
    directory.polled(CPU, is_healthy=True)
    assert isinstance(directory.choose(query), Selected)
    directory.started(CPU)
    directory.finished(CPU, reached=False)
    assert isinstance(directory.choose(query), Refused)
    directory.polled(CPU, is_healthy=True)
    assert isinstance(directory.choose(query), Selected)
    directory.set_profile("max")
    assert isinstance(directory.choose(query), Refused)
    directory.set_profile("cpu_only")
    directory.polled(CPU, is_healthy=True)
    assert isinstance(directory.choose(query), Selected)
    renamed = SMALL.model_copy(update={"display_name": "Smaller"})
    directory.replace_table(a_routing_table(renamed))
    decision = directory.choose(query)
    assert isinstance(decision, Selected)
    assert decision.model == renamed


def test_many_different_queries_are_all_answered() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    queries = [Query(min_context_tokens=tokens) for tokens in range(REMEMBERED_DECISIONS + 2)]
    assert all(directory.choose(query) == directory.choose(queries[0]) for query in queries)


def test_another_profile_has_other_upstreams() -> None:
    directory = a_directory(StillClock())
    directory.polled(CPU, is_healthy=True)
    directory.set_profile("max")
    assert directory.profile == "max"
    assert directory.due() == (GPU,)
    assert isinstance(directory.choose(Query()), Refused)
    directory.polled(GPU, is_healthy=True)
    decision = directory.choose(Query())
    assert isinstance(decision, Selected)
    assert decision.upstream == GPU


def test_changes_are_announced_and_repetitions_are_not() -> None:
    directory = a_directory(StillClock())
    directory.changed.clear()
    directory.polled(CPU, is_healthy=True)
    assert directory.changed.is_set()
    directory.changed.clear()
    directory.polled(CPU, is_healthy=True)
    directory.set_profile("cpu_only")
    assert not directory.changed.is_set()


def test_health_says_what_the_design_document_says() -> None:
    clock = StillClock()
    directory = a_directory(clock)
    directory.polled(CPU, is_healthy=True)
    directory.started(CPU)
    clock.seconds += 3600
    assert directory.health() == {
        "timestamp": "2023-11-14T23:30:00Z",
        "runtimes": [
            {
                "profile": "small-cpu_only",
                "status": "healthy",
                "model_id": "small",
                "port": 8601,
                "uptime_seconds": 3600,
                "active_requests": 1,
            }
        ],
        "gpu_profile": "cpu_only",
    }


def test_health_tells_unknown_from_unhealthy() -> None:
    directory = a_directory(StillClock())
    assert directory.health()["runtimes"][0]["status"] == "unknown"
    directory.polled(CPU, is_healthy=False)
    assert directory.health()["runtimes"][0]["status"] == "unhealthy"
