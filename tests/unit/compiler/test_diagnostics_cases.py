"""Each folder of tests/cases/diagnostics holds a models.yaml and the diagnostics that it gives, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.source import decode
from kloros_infra.diagnostics import Problems, has_errors
from tests.factories import a_lock_for

CASES = sorted((Path(__file__).parents[2] / "cases" / "diagnostics").iterdir())


def diagnose(data: bytes) -> tuple[bool, Problems]:
    """Take a file as far as it goes: whether a catalog came of it, and every problem."""
    text, problems = decode(data, file="models.yaml")
    if text is None:
        return False, problems
    parsed, problems = parse(text, file="models.yaml")
    if parsed is None:
        return False, problems
    catalog, problems = resolve(parsed, a_lock_for(parsed.config))
    return catalog is not None, problems


def render(problems: Problems) -> str:
    """Write problems so that a change of any word shows in a diff."""
    return "".join(
        f"{problem.span} {problem.severity} {problem.code} {problem.summary} [{problem.address}]\n"
        f"  {problem.detail}\n"
        f"  {problem.hint}\n"
        for problem in problems
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_gives_its_expected_diagnostics(case: Path) -> None:
    has_catalog, problems = diagnose((case / "models.yaml").read_bytes())

    assert render(problems) == (case / "expected.diagnostics").read_text()
    assert has_catalog is not has_errors(problems)


def test_there_is_a_case_for_every_code_of_the_text() -> None:
    shown = {
        line.split()[2]
        for case in CASES
        for line in (case / "expected.diagnostics").read_text().splitlines()
        if line[0] != " "
    }
    documented = {
        line.split()[1]
        for line in (Path(__file__).parents[3] / "docs" / "diagnostics.md").read_text().splitlines()
        if line.startswith(("### KI1", "### KI2"))
    }

    # KI100 is the file system's: the passes see texts.
    assert documented - shown == {"KI100"}
    assert shown <= documented
