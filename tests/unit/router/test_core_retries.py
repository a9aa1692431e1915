"""How often the core tries again: the budget, and what does not count against it."""

from __future__ import annotations

import pytest

from kloros_infra.router.effects import Send
from kloros_infra.router.events import Outcome, UnitFailed, UnitStarted
from kloros_infra.router.retries import LEAST_RETRIES
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance


@pytest.fixture
def twice() -> Told:
    """One model on this machine and on another."""
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a"),)))
    told.up("a-max")
    return told


def test_retries_have_a_budget(twice: Told) -> None:
    for _ in range(LEAST_RETRIES):
        id = twice.ask("a")
        twice.end(id, Outcome.UNAVAILABLE)
        twice.end(id)
        twice.healthy("a-max")
        for _ in range(2):
            twice.end(twice.ask("a"))
    id = twice.ask("a")
    twice.end(id, Outcome.UNAVAILABLE)
    assert twice.refusal().problem.code == "KI873"


@pytest.mark.parametrize("outcome", [Outcome.UNREACHED, Outcome.BUSY])
def test_what_falls_with_one_failure_costs_the_budget_one_retry(outcome: Outcome) -> None:
    count = LEAST_RETRIES + 2
    told = Told(a_table(a_model("a", an_instance("a-max", parallel=count)), hosts=(a_host("east", "a"),)))
    told.up("a-max")
    ids = [told.ask("a") for _ in range(count)]
    told.now += 0.1
    for id in ids:
        told.end(id, outcome)
        assert told.sent == [(id, "east/a")]


def test_the_budget_grows_with_what_is_asked(twice: Told) -> None:
    for index in range(40):
        twice.now += 0.1
        id = twice.ask("a")
        if index % 10 == 0:
            twice.end(id, Outcome.UNAVAILABLE)
            assert twice.sent == [(id, "east/a")]
        twice.end(id)
        if index % 10 == 0:
            twice.healthy("a-max")


@pytest.fixture
def rig_first() -> Told:
    """One model that a host serves first, and an instance of this machine that does not run."""
    told = Told(a_table(a_model("a"), hosts=(a_host("rig", "a", priority=10),)))
    told.down("a-max")
    return told


@pytest.mark.parametrize("outcome", [Outcome.UNAVAILABLE, Outcome.BUSY, Outcome.LOADING])
def test_what_a_host_has_failed_waits_for_an_instance_that_can_be_started(rig_first: Told, outcome: Outcome) -> None:
    id = rig_first.ask("a")
    assert rig_first.sent == [(id, "rig/a")]
    rig_first.end(id, outcome)
    assert (rig_first.sent, rig_first.started) == ([], ["a-max"])
    rig_first.tell(UnitStarted("a-max"))
    rig_first.healthy("rig")
    assert rig_first.sent == []
    rig_first.healthy("a-max")
    assert rig_first.sent == [(id, "a-max")]


def test_a_host_is_asked_again_where_the_instance_does_not_start(rig_first: Told) -> None:
    id = rig_first.ask("a")
    rig_first.end(id, Outcome.BUSY, retry_after_s=1.0)
    rig_first.tell(UnitFailed("a-max", "out of memory"))
    sent = rig_first.sent or [(e.id, e.target.name) for e in rig_first.after(2.0) if isinstance(e, Send)]
    assert sent == [(id, "rig/a")]


def test_a_host_that_alone_can_serve_is_asked_again_once_it_wants_to_be() -> None:
    told = Told(a_table(a_model("a"), hosts=(a_host("rig", "a", priority=10),)), profile="mid")
    id = told.ask("a")
    told.end(id, Outcome.BUSY, retry_after_s=3.0)
    assert told.after(2.9) == [] or not told.sent
    told.after(0.2)
    assert told.sent == [(id, "rig/a")]
