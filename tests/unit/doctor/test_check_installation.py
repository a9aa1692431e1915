"""Checks of what is installed, of ports, bus and router."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Diagnostic, Severity, Span
from kloros_infra.doctor.facts import Bus, Choice, Generation, NeededPort, PortUse, Router, Units
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.names import AGENT_UNIT, DIRTY_PATH, DIRTY_TIMER, RECONCILE_PATH, RECONCILE_UNIT
from kloros_infra.ir.observed import ActiveState, Listener, UnitState
from tests.unit.doctor.healthy import STATES, checks, codes, line, wants

WRONG = Diagnostic("KI203", "Port used twice", "Both ask for 8601.", "", span=Span("models.yaml", 7, 3))
PLACELESS = replace(WRONG, span=None)
SLIGHT = replace(PLACELESS, code="KI210", severity=Severity.WARNING)
NEEDED = NeededPort(11434, "kloros-router.service")
REPORT = CardsReport(profile="mid", reason="rtx5080 is absent", since_epoch_s=0)


def in_state(unit: str, active: ActiveState) -> Units:
    return Units({**STATES, unit: UnitState(unit, active, result="exit-code", exit_status=1)})


def test_errors_of_models_yaml_are_a_failure() -> None:
    found = wants(problems=(SLIGHT, WRONG, PLACELESS))

    assert line("models_yaml", wanted=found) == "models.yaml:7:3: KI203 Both ask for 8601. (and 1 more)"
    assert line("models_yaml", wanted=wants(problems=(PLACELESS,))) == "KI203 Both ask for 8601."
    assert codes("models_yaml", wanted=found) == ["KI967"]


def test_models_yaml_without_errors_is_well() -> None:
    assert line("models_yaml") == "can be compiled"
    assert line("models_yaml", wanted=wants(problems=(SLIGHT, SLIGHT))) == "can be compiled, with 2 warnings"
    assert "was looked at instead" in line("models_yaml", wanted=wants(has_models_file=False))
    assert line("models_yaml", wanted=wants(has_models_file=False, source="")) == "there is none yet"


@pytest.mark.parametrize(
    ("generation", "has_models_file", "expected"),
    [
        (Generation(12), True, []),
        (Generation(12, is_good=False), True, []),
        (Generation(None), True, ["KI968"]),
        (Generation(None), False, []),
        (Generation(12, differences=("a", "b")), True, ["KI969"]),
        (Generation(12, drift=("a",)), False, ["KI969"]),
        (Generation(12, interrupted="start llama@code-mid"), True, ["KI970"]),
        (Generation(12, is_unconfirmed=True), True, ["KI977"]),
        (Generation(12, damage="routing.json was changed"), True, ["KI979"]),
        (Generation(None, interrupted="stage"), True, ["KI970", "KI968"]),
    ],
)
def test_what_is_installed_is_held_against_models_yaml(
    generation: Generation, has_models_file: bool, expected: list[str]
) -> None:
    assert codes("generation", wanted=wants(has_models_file=has_models_file), generation=generation) == expected


def test_a_generation_is_told_in_few_words() -> None:
    many = Generation(3, differences=("a", "b", "c", "d", "e"))

    assert line("generation", generation=many) == "generation 3 differs: a, b, c and 2 more"
    assert "not been found good" in line("generation", generation=Generation(3, is_good=False))
    assert line("generation", generation=Generation(3)) == "generation 3, as it was written"
    assert (
        line("generation", wanted=wants(has_models_file=False), generation=Generation()) == "nothing is installed yet"
    )


def test_a_unit_that_has_failed_is_named_with_how() -> None:
    (check,) = checks("units", units=in_state("kloros-router.service", ActiveState.FAILED))

    assert (check.code, check.detail) == ("KI971", "kloros-router.service has failed (exit-code 1)")
    assert "kloros-infra logs kloros-router.service" in check.fix
    assert line("units") == "1 of 2 run, none has failed"
    assert line("units", units=Units()) == "nothing is installed yet"


@pytest.mark.parametrize(
    ("unit", "active", "expected"),
    [
        (RECONCILE_PATH, ActiveState.FAILED, ["KI972"]),
        (DIRTY_PATH, ActiveState.INACTIVE, ["KI972"]),
        (DIRTY_TIMER, ActiveState.ACTIVATING, []),
        (RECONCILE_UNIT, ActiveState.FAILED, ["KI972"]),
        (RECONCILE_UNIT, ActiveState.ACTIVE, []),
        (AGENT_UNIT, ActiveState.INACTIVE, ["KI978"]),
        (AGENT_UNIT, ActiveState.ACTIVATING, []),
    ],
)
def test_what_follows_the_cards_stands_by(unit: str, active: ActiveState, expected: list[str]) -> None:
    assert codes("triggers", units=in_state(unit, active)) == expected
    assert codes("units", units=in_state(unit, active)) == []


def test_a_missing_rule_is_a_failure_and_an_agent_need_not_be() -> None:
    without = Units({name: state for name, state in STATES.items() if name != AGENT_UNIT})

    assert codes("triggers", units=Units({}, ("etc/udev/rules.d/70-kloros-infra.rules",))) == ["KI973"]
    assert codes("triggers", units=without) == []
    assert line("triggers", units=Units()).startswith("not needed")


def test_the_active_profile_is_the_one_that_was_chosen() -> None:
    known = ("max", "mid")

    assert line("profile") == "mid: rtx5080 is absent"
    assert line("profile", choice=Choice("mid", None, (), known)) == "mid"
    assert codes("profile", choice=Choice("max", REPORT, (), known)) == ["KI974"]
    assert codes("profile", choice=Choice("lost", None, (), known)) == ["KI974"]
    assert line("profile", choice=Choice()) == "none is chosen yet: nothing is installed yet"
    assert line("profile", choice=Choice(known=known)) == "none is chosen since the machine booted"


def test_lockouts_that_are_not_understood_are_told_once() -> None:
    problem = replace(PLACELESS, code="KI901", detail="/etc/kloros/gpu_lockout: it is no JSON.")

    assert codes("lockouts", choice=Choice("mid", REPORT, (problem, problem))) == ["KI975"]
    assert line("lockouts", choice=Choice("mid", REPORT, (problem,))).startswith("KI901: /etc/kloros/gpu_lockout")


@pytest.mark.parametrize(
    ("listeners", "main_pid", "words"),
    [
        ((), 0, None),
        ((Listener(7, "python"),), 7, None),
        ((Listener(9, "python", (7, 1)),), 7, None),
        ((Listener(0),), 7, None),
        ((Listener(5, "ollama"),), 7, "is taken by ollama (pid 5)"),
        ((Listener(5, "ollama"),), 0, "is taken by ollama (pid 5)"),
        ((Listener(0),), 0, "is taken by another user's program"),
    ],
)
def test_a_port_is_free_or_ours(listeners: tuple[Listener, ...], main_pid: int, words: str | None) -> None:
    found = checks("ports", ports=(PortUse(NEEDED, listeners, main_pid),))

    if words is None:
        assert [check.code for check in found] == [""]
    else:
        assert found[0].code == "KI963"
        assert found[0].detail == f"11434, which kloros-router.service needs, {words}"


def test_a_port_of_somebody_unknown_is_not_seen() -> None:
    uses = (PortUse(NEEDED, (Listener(0),), None), PortUse(NeededPort(8601, "x"), (), None))

    assert codes("ports", ports=uses) == ["KI930"]
    assert line("ports", ports=uses).endswith("whose programs listen on 11434")
    assert line("ports", ports=uses[1:]) == "0 used by ours, 1 free"


def test_the_bus_carries_messages_in_time() -> None:
    assert line("bus") == "a message through tcp://127.0.0.1:5556 took 2.1 ms"
    assert codes("bus", bus=Bus("x", is_ours=True, round_trip_s=0.2)) == ["KI965"]
    assert line("bus", bus=None) == "not installed yet"
    (ours,) = checks("bus", bus=Bus("x", is_ours=True, trouble="nobody listens"))
    (theirs,) = checks("bus", bus=Bus("x", is_ours=False, trouble="nobody listens"))
    assert (ours.code, theirs.code) == ("KI964", "KI964")
    assert "kloros-bus" in ours.fix
    assert "managed" in theirs.fix


def test_the_router_answers() -> None:
    assert line("router") == "answered in 1.2 ms, serves by mid"
    assert line("router", router=None) == "not installed yet"
    assert codes("router", router=Router(trouble="nobody listens")) == ["KI966"]
