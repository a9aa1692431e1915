"""What plan knows beforehand to keep apply from a machine, and a router that gets other addresses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Severity
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.names import ROUTER_UNIT
from kloros_infra.ir.plan import RestartUnit, StartUnit, StopUnit
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.obstacles import apply_at_work, former_table, unnamed_cards, unreadable
from tests.factories import a_card, a_catalog, a_model, a_profile, an_instance
from tests.sites import LAYOUT, Site, converged

UUID = "GPU-00000000-0000-0000-0000-000000000001"


def routed(text: str) -> Desired:
    """Give a site whose routing table is this text."""
    desired = Site().desired()
    return replace(desired, tree={**desired.tree, LAYOUT.routing: TextFile(text)})


def table(*, bridge: int = 11434, xsub: str = "tcp://127.0.0.1:5556", models: tuple[str, ...] = ()) -> str:
    """Write the part of a routing table that matters here."""
    return json.dumps({"bridge": {"ports": [bridge]}, "bus": {"xsub": xsub}, "models": models})


@pytest.mark.parametrize("after", [table(bridge=11435), table(xsub="tcp://127.0.0.1:1"), "{}", "not JSON"])
def test_the_router_restarts_for_other_addresses(after: str) -> None:
    made, _ = plan(routed(after), converged(routed(table())))
    acting = [step for step in made.steps if isinstance(step, StopUnit | StartUnit | RestartUnit)]
    assert acting == [RestartUnit(ROUTER_UNIT)]
    assert any("its addresses differ" in change.reason for change in made.changes)


def test_how_long_the_bridge_waits_changes_while_the_router_runs() -> None:
    after = json.dumps(json.loads(table()) | {"bridge": {"ports": [11434], "max_queued": 4}})
    made, _ = plan(routed(after), converged(routed(table())))
    assert not [step for step in made.steps if isinstance(step, StopUnit | StartUnit | RestartUnit)]


def test_the_router_takes_up_everything_else_while_it_runs() -> None:
    made, _ = plan(routed(table(models=("code",))), converged(routed(table())))
    assert not [step for step in made.steps if isinstance(step, StopUnit | StartUnit | RestartUnit)]


def test_cards_that_only_an_index_names_are_refused_where_there_are_several() -> None:
    named, first, second = a_card("named", uuid=UUID), a_card("first", uuid=None), a_card("second", uuid=None)
    alone = a_catalog(an_instance(a_model(), a_profile("max", first)))
    assert unnamed_cards(alone) == ()
    several = a_catalog(an_instance(a_model(), a_profile("max", second, named, first)))
    assert [(p.code, p.address) for p in unnamed_cards(several)] == [("KI521", "gpus.first"), ("KI521", "gpus.second")]


def test_cards_of_another_host_are_for_that_host_to_tell_apart() -> None:
    here, there, too = (a_card(name, host=host, uuid=None) for name, host in (("h", "astraea"), ("t", "g"), ("u", "g")))
    there, too = (replace(card, remote=RemoteLink("10.0.0.7", (50052,), 1)) for card in (there, too))
    catalog = a_catalog(an_instance(a_model(), a_profile("max", here, there, too)))

    assert unnamed_cards(catalog) == ()
    assert [problem.address for problem in unnamed_cards(catalog, "g")] == ["gpus.t", "gpus.u"]
    assert unnamed_cards(catalog, "attic") == ()


def test_what_may_not_be_looked_at_is_told_and_left_alone() -> None:
    desired = Site().desired()
    observed = converged(desired)
    hidden = tuple(sorted(path for path in desired.tree if path.startswith(f"{LAYOUT.programs}/")))
    files = {path: file for path, file in observed.files.items() if path not in hidden}
    unseen = replace(observed, files=files, unreadable=hidden, units={}, has_manager=False)
    made, problems = plan(desired, unseen)
    assert made.changes == ()
    assert [(one.code, one.severity) for one in problems] == [("KI563", Severity.WARNING)]
    assert [(one.code, one.severity) for one in made.refusals] == [("KI563", Severity.ERROR)]
    assert f"/{hidden[0]}" in problems[0].detail
    assert unreadable(("a", "b", "c", "d", "e")).detail.startswith("/a, /b, /c and 2 more may not")


def test_an_apply_at_work_is_a_warning() -> None:
    assert (apply_at_work().code, apply_at_work().severity) == ("KI562", Severity.WARNING)


def test_a_generation_of_another_release_says_both_versions() -> None:
    problem = former_table(7, "1", 2)
    assert (problem.code, problem.severity) == ("KI566", Severity.ERROR)
    assert "Generation 7 has a routing table of version 1" in problem.detail
    assert "version 2 alone" in problem.detail
