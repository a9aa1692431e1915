"""What a process runs by is remembered as long as it is the same process, through every way that a plan can go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.on_change import Kept, OnChange
from kloros_infra.ir.plan import Plan, RecordInstalled
from kloros_infra.ir.running import RunningProcess
from kloros_infra.planner.definitions import Difference, definition, differences
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.file_changes import installed_tree
from kloros_infra.planner.generation_changes import manifest_of
from kloros_infra.planner.keeping import UNKNOWN
from kloros_infra.planner.selection import narrowed
from tests.sites import LAYOUT, MiniModel, Site, converged

UNIT = "llama@code-max.service"
ENV_16000 = {"LLAMA_ARG_CTX_SIZE": "16000"}


def a_site(on_change: str = "defer", **fields: object) -> Desired:
    code = replace(MiniModel("code", {"max": 8601}), on_change=on_change, **fields)  # type: ignore[arg-type]
    return Site(models=(code, MiniModel("chat", {"max": 8611}))).desired()


def recorded(made: Plan) -> Installed:
    """Give the last record that a plan writes."""
    return next(step.installed for step in reversed(made.steps) if isinstance(step, RecordInstalled))


def first_recorded(made: Plan) -> Installed:
    return next(step.installed for step in made.steps if isinstance(step, RecordInstalled))


def applied(observed: Observed, desired: Desired, made: Plan) -> Observed:
    """Carry a plan out on paper: the files, and the record, are as it says, and what restarts is another process."""
    restarted = {one.unit: replace(one, main_pid=one.main_pid + 1000) for one in observed.units.values()}
    again = {change.address for change in made.changes if change.unit_action == "restart"}
    units = {
        name: restarted[name] if name == UNIT and "instance.code-max" in again else state
        for name, state in observed.units.items()
    }
    return replace(
        observed,
        files=dict(desired.tree),
        installed=recorded(made) if made.steps else observed.installed,
        manifest=manifest_of(desired, 2),
        units=units,
        weights={step.destination: step.sha256 for step in desired.weights},
    )


def as_process(observed: Observed, started_s: float) -> Observed:
    pid = observed.units[UNIT].main_pid
    argv = ("/opt/llama.cpp/llama-server", "--alias", "code")
    return replace(observed, running={UNIT: RunningProcess(pid, argv, None, started_s, "/")})


def deferred(started_s: float | None = None) -> tuple[Observed, Desired]:
    """Apply a change that is deferred."""
    before, after = converged(a_site()), a_site(context=32000)
    before = before if started_s is None else as_process(before, started_s)
    return applied(before, after, plan(after, before)[0]), after


def test_what_waits_is_remembered_and_the_next_plan_is_empty() -> None:
    observed, desired = deferred()
    made, _ = plan(desired, observed)

    assert observed.installed.kept[UNIT].definition.environment["LLAMA_ARG_CTX_SIZE"] == "16000"
    assert made.is_empty
    assert not made.steps
    assert [(one.address, one.on_change) for one in made.deferred] == [("instance.code-max", OnChange.DEFER)]


def test_it_is_remembered_before_the_first_write_too() -> None:
    made, _ = plan(a_site(context=32000), converged(a_site()))

    assert first_recorded(made).is_unfinished
    assert first_recorded(made).kept == recorded(made).kept != {}


def test_a_second_change_does_not_make_one_forget_the_first() -> None:
    observed, _ = deferred()
    third = a_site(context=64000)
    made, _ = plan(third, observed)

    assert recorded(made).kept == observed.installed.kept
    assert plan(third, applied(observed, third, made))[0].is_empty


def test_going_back_ends_the_waiting_without_a_restart() -> None:
    observed, _ = deferred()
    made, _ = plan(a_site(), observed)

    assert {change.unit_action for change in made.changes} <= {"", "reload"}
    assert (recorded(made).kept, made.deferred) == ({}, ())


def test_a_restart_ends_it_and_an_interrupted_one_does_not() -> None:
    observed, desired = deferred()
    made, _ = plan(replace(desired, replaced=frozenset({UNIT})), observed)

    assert first_recorded(made).kept == observed.installed.kept
    assert recorded(made).kept == {}
    assert not plan(desired, applied(observed, desired, made))[0].deferred


@pytest.mark.parametrize(
    ("pid", "started_s", "is_same"), [(100, 5.0, True), (100, 7.0, False), (101, 5.0, False), (0, 5.0, False)]
)
def test_another_process_has_read_what_is_there_now(pid: int, started_s: float, is_same: bool) -> None:
    observed, desired = deferred(started_s=5.0)
    state = replace(observed.units[UNIT], main_pid=observed.units[UNIT].main_pid - 100 + pid)
    observed = replace(observed, units={**observed.units, UNIT: state})
    made, _ = plan(desired, as_process(observed, started_s))

    assert bool(made.deferred) is is_same
    assert made.is_empty


def test_a_process_that_could_not_be_looked_at_goes_by_its_number() -> None:
    observed, desired = deferred(started_s=5.0)

    assert plan(desired, replace(observed, running={}))[0].deferred


def test_a_plan_of_a_part_keeps_what_is_known_of_the_rest() -> None:
    observed, desired = deferred()
    chat = narrowed(desired, observed, frozenset({"llama@chat-max.service"}))
    changed = replace(chat, replaced=frozenset({"llama@chat-max.service"}))
    made, _ = plan(changed, observed)

    assert recorded(made).kept == observed.installed.kept


def test_a_masked_unit_keeps_what_is_known_of_it() -> None:
    observed, desired = deferred()
    masked = replace(observed.units[UNIT], is_masked=True)
    restarting = a_site("restart", context=32000)
    made, _ = plan(restarting, replace(observed, units={**observed.units, UNIT: masked}))

    assert recorded(made).kept == observed.installed.kept
    assert not made.deferred
    assert desired != restarting


def test_a_stopped_unit_starts_by_what_is_there_now() -> None:
    observed, desired = deferred()
    units = {**observed.units, UNIT: UnitState(UNIT, ActiveState.INACTIVE)}
    made, _ = plan(desired, replace(observed, units=units))

    assert (recorded(made).kept, made.deferred) == ({}, ())


def test_what_cannot_be_told_is_not_guessed() -> None:
    before, after = converged(a_site()), a_site()
    files = {path: file for path, file in before.files.items() if path != LAYOUT.unit_path(UNIT)}
    made, _ = plan(after, replace(before, files=files))
    kept = recorded(made).kept

    assert kept[UNIT].definition == UNKNOWN
    later = as_process(replace(applied(before, after, made), units=before.units), 5.0)
    later = replace(later, installed=replace(later.installed, kept={UNIT: replace(kept[UNIT], started_s=5.0)}))
    again, _ = plan(after, later)
    assert not again.drift
    assert [one.reason for one in again.deferred] == [
        "its definition differs; its command differs; its environment differs"
    ]


def test_bytes_that_are_no_text_can_be_remembered() -> None:
    before, path = converged(a_site()), LAYOUT.unit_path(UNIT)
    odd = TextFile("[Service]\nExecStart=/bin/true\nUser=\udcff\n")
    made, _ = plan(a_site(), replace(before, files={**before.files, path: odd}))

    assert "\\udcff" in recorded(made).kept[UNIT].definition.unit


def test_a_word_that_nobody_knows_restarts() -> None:
    before, after = converged(a_site("sometimes")), a_site("sometimes", context=32000)

    assert {change.unit_action for change in plan(after, before)[0].changes} >= {"restart"}


def test_another_unit_in_its_place_waits_as_well() -> None:
    desired = a_site(context=32000)
    before = converged(a_site())
    override = LAYOUT.override_path(UNIT)
    installed = installed_tree({**before.files, override: TextFile("[Service]\n")})
    observed = replace(
        before, files={**before.files, override: TextFile("[Service]\n")}, installed=Installed(installed)
    )
    made, _ = plan(desired, observed)

    assert recorded(made).kept[UNIT].definition == UNKNOWN


def test_differences_are_told_apart() -> None:
    one = Site(models=(MiniModel("code", {"max": 8601}),))
    unit = next(unit for unit in one.desired().units if unit.unit == UNIT)
    base = definition(unit, one.tree(), dict.fromkeys(unit.weights, "a"), one.desired())

    def against(**fields: object) -> list[Difference]:
        return list(differences(base, replace(base, **fields)))  # type: ignore[arg-type]

    assert against() == []
    assert against(unit=base.unit + "ProtectProc=invisible\n") == [Difference.DEFINITION]
    assert against(unit=base.unit.replace("--alias code", "--alias other")) == [Difference.COMMAND]
    assert against(environment={"A": "1"}) == [Difference.ENVIRONMENT]
    assert against(program="other") == [Difference.PROGRAM]
    assert against(weights=dict.fromkeys(unit.weights, "b")) == [Difference.WEIGHTS]
    assert against(weights={}) == []
    assert against(unit=base.unit.replace("/bin/llama-server", "/bin/other"), program="other") == [Difference.COMMAND]


def test_of_one_plan_only_units_that_run_are_kept() -> None:
    kept = Kept(1, None, UNKNOWN)
    before = converged(a_site())
    installed = replace(before.installed, kept={"gone.service": kept, "kloros-llm.target": kept})
    made, _ = plan(a_site(), replace(before, installed=installed))

    assert recorded(made).kept == {}
