"""Each folder of tests/cases/lock holds a project and what `lock --check` says about its lock, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.cli.locking import check_project
from kloros_infra.cli.project import read_project
from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ProblemsError
from tests.unit.compiler.test_diagnostics_cases import render

CASES = sorted((Path(__file__).parents[2] / "cases" / "lock").iterdir())


def check(file: Path) -> Problems:
    """Check a project's lock, and give every problem."""
    try:
        return check_project(read_project(file))[1]
    except ProblemsError as error:
        return error.problems


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_lock_gives_its_expected_diagnostics(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)

    assert render(check(Path("models.yaml"))) == Path("expected.diagnostics").read_text()


def test_there_is_a_case_for_every_code_of_the_lock_s_text() -> None:
    shown = {
        line.split()[2]
        for case in CASES
        for line in (case / "expected.diagnostics").read_text().splitlines()
        if line[0] != " "
    }

    assert {"KI301", "KI302", "KI303", "KI305", "KI306", "KI307", "KI308", "KI326", "KI327", "KI329"} <= shown
