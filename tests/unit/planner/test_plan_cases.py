"""Each folder of tests/cases/plan is a machine, what is wanted of it, and the plan in expected.txt.

case.yaml: `before` and `after` change the standard site (before: null is a machine that we never touched, after:
destroy wants nothing), `machine` then changes what is found on it. `only`, `replace`, `drift` and `diff` are options,
`requests` is what servers say, `kept` what an earlier apply left running by the site of then. `pytest
--snapshot-update` writes expected.txt anew: read the difference in Git.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from syrupy.data import SnapshotCollections
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation
from syrupy.types import SnapshotIndex

from kloros_infra.executor.journal_record import describe
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.on_change import Kept
from kloros_infra.ir.running import RunningProcess
from kloros_infra.planner.definitions import definition
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.explain import explain
from kloros_infra.planner.file_changes import digest
from kloros_infra.planner.impact import with_requests
from kloros_infra.planner.selection import chosen_units, narrowed, unit_names
from kloros_infra.planner.text_diff import plan_diffs
from tests.sites import LAYOUT, MiniModel, Site, converged, fresh

FOLDER = Path(__file__).parents[2] / "cases" / "plan"
CASES = sorted(path.parent for path in FOLDER.glob("*/case.yaml"))


def a_site(edits: dict[str, Any]) -> Site:
    """Apply a case's edits to the standard site."""
    edits = dict(edits)
    models = {model.name: model for model in Site().models}
    for name, fields in edits.pop("models", {}).items():
        if fields is None:
            del models[name]
        else:
            models[name] = replace(models.get(name, MiniModel(name, {"max": 8700})), **fields)
    return replace(Site(), models=tuple(models.values()), **edits)


def wanted(after: Any) -> Desired:
    if after in ("destroy", "destroy with weights"):
        return nothing_desired(LAYOUT, with_weights=after == "destroy with weights")
    return a_site(after or {}).desired()


def found(case: dict[str, Any], desired: Desired) -> Observed:
    """Build the machine: as the site before left it, its new units stopped, then changed as the case says."""
    observed = fresh(desired) if case["before"] is None else converged(a_site(case["before"]).desired())
    units = {**fresh(desired).units, **observed.units}
    machine = case.get("machine", {})
    files = dict(observed.files)
    for path, text in machine.get("files", {}).items():
        files.pop(path, None)
        if text is not None:
            files[path] = Link(text[3:]) if text.startswith("-> ") else TextFile(text)
    for path, (old, new) in machine.get("edits", {}).items():
        before = files[path]
        assert isinstance(before, TextFile)
        assert old in before.text
        files[path] = TextFile(before.text.replace(old, new), before.mode)
    for unit, state in machine.get("units", {}).items():
        drop_ins = tuple(state.get("drop_ins", ()))
        units[unit] = UnitState(unit, **{**state, "active": ActiveState(state["active"]), "drop_ins": drop_ins})
    adopted = {path: digest(files[path]) for path in machine.get("adopted", ())}
    installed = Installed(
        adopted
        | {
            path: digest
            for path, digest in observed.installed.digests.items()
            if path not in machine.get("forgotten", [])
        },
        is_unfinished=machine.get("is_unfinished", False),
        owed=frozenset(machine.get("owed", [])),
        kept={unit: kept(unit, edits, units) for unit, edits in machine.get("kept", {}).items()},
    )
    asked = {} if machine.get("is_manager_silent") else units
    weights = {**observed.weights, **machine.get("weights", {})}
    running = {
        unit: RunningProcess(7, tuple(process["argv"]), process.get("environment"), 1.0, "/")
        for unit, process in machine.get("running", {}).items()
    }
    return replace(observed, files=files, installed=installed, weights=weights, units=asked, running=running)


def kept(unit: str, edits: dict[str, Any], units: dict[str, UnitState]) -> Kept:
    """Say what an earlier apply left a process running by: the site as it was then, unless it is another process."""
    edits = dict(edits)
    pid = edits.pop("main_pid", units[unit].main_pid)
    then = a_site(edits).desired()
    wanted_then = next(one for one in then.units if one.unit == unit)
    pinned = {step.destination: step.sha256 for step in then.weights}
    return Kept(pid, None, definition(wanted_then, then.tree, pinned, then))


def narrow(case: dict[str, Any], desired: Desired, observed: Observed) -> Desired:
    """Apply --only and --replace."""
    names = unit_names(None, desired, observed)
    only, unknown = chosen_units(case.get("only", ()), names)
    replaced, also_unknown = chosen_units(case.get("replace", ()), names)
    assert not unknown
    assert not also_unknown
    marked = replace(desired, replaced=replaced)
    return narrowed(marked, observed, only | replaced) if only else marked


def shown(desired: Desired, observed: Observed, case: dict[str, Any]) -> str:
    """Write everything that a plan holds."""
    made, problems = plan(desired, observed)
    made = with_requests(made, case.get("requests", {}))
    lines = [*explain(made, problems, width=100, color=False, is_drift_shown=case.get("drift", False))]
    lines += ["", "diff:", *plan_diffs(desired, observed)] if case.get("diff") else []
    lines += ["", "steps:"]
    lines += [f"  {describe(step)}" for step in made.steps]
    lines += [f"port {port} for {unit}" for port, unit in made.ports]
    lines += [f"refused: {problem.code} {problem.address}" for problem in made.refusals]
    lines.append(f"unchanged: {made.unchanged}")
    return "\n".join(lines) + "\n"


class PlanText(SingleFileSnapshotExtension):
    """Keeps what a case gives as expected.txt in its folder."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        """Name the folder by the case's name, which the test bears in brackets."""
        return str(FOLDER / test_location.testname.partition("[")[2].removesuffix("]"))

    @classmethod
    def get_file_basename(cls, *, test_location: PyTestLocation, index: SnapshotIndex) -> str:  # noqa: ARG003
        return "expected"

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        return Path(snapshot_location).parent == Path(cls.dirname(test_location=test_location))

    def discover_snapshots(
        self,
        *,
        test_location: PyTestLocation,
        ignore_extensions: list[str] | None = None,
    ) -> SnapshotCollections:
        """Find nothing that could be unused, and so removed: the folder holds what a case is made of."""
        return SnapshotCollections()


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_case_gives_its_expected_plan(folder: Path, snapshot: SnapshotAssertion) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    desired = wanted(case["after"])
    observed = found(case, desired)
    assert shown(narrow(case, desired, observed), observed, case) == snapshot(extension_class=PlanText)


def test_there_are_cases_and_nothing_else() -> None:
    assert len(CASES) >= 60
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == {
        f"{case.name}/{name}" for case in CASES for name in ("case.yaml", "expected.txt")
    }
