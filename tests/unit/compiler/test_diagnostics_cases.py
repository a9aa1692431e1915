"""Each folder of tests/cases/diagnostics holds a models.yaml and the diagnostics that it gives, word for word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.compiler.check_options import check_options, options_not_checked
from kloros_infra.compiler.composition import included
from kloros_infra.compiler.llama_server_options import parse_help
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.source_encoding import decode
from kloros_infra.diagnostics import Problems, has_errors, in_order
from kloros_infra.ir.config import Config
from kloros_infra.ir.lock import Lock
from tests.factories import a_lock_for

CASES = sorted((Path(__file__).parents[2] / "cases" / "diagnostics").iterdir())


def parts_of(case: Path, text: str) -> dict[str, str]:
    """Read what a case's models.yaml includes."""
    names = [str(path.relative_to(case)) for path in sorted(case.rglob("*.yaml"))]
    found = [name for pattern in included(text, file="models.yaml") for name in names if pattern.is_match(name)]
    return {name: (case / name).read_text() for name in found}


def diagnose(case: Path) -> tuple[bool, Problems]:
    """Take a case's file as far as it goes: whether a catalog came of it, and every problem."""
    text, problems = decode((case / "models.yaml").read_bytes(), file="models.yaml")
    if text is None:
        return False, problems
    parsed, problems = parse(text, file="models.yaml", parts=parts_of(case, text))
    if parsed is None:
        return False, problems
    catalog, found = resolve(parsed, lock_of(case, parsed.config))
    answers = asked_of_llama_server(case, parsed)
    return catalog is not None and not has_errors(answers), in_order((*problems, *found, *answers))


def lock_of(case: Path, config: Config) -> Lock:
    """Build a lock in which headers say what a case's headers.json says of them."""
    lock = a_lock_for(config)
    changes = json.loads((case / "headers.json").read_text()) if (case / "headers.json").exists() else {}
    weights = dict(lock.weights)
    for key, fields in changes.items():
        weights[key] = replace(weights[key], header=replace(weights[key].header, **fields))
    return Lock(weights)


def asked_of_llama_server(case: Path, parsed: Parsed) -> Problems:
    """Ask a build that prints a case's help.txt; one that is empty stands for none that can be asked."""
    if not (case / "help.txt").exists():
        return ()
    text = (case / "help.txt").read_text()
    reason = "/opt/llama.cpp/llama-server does not exist"
    return check_options(parsed, parse_help(text)) if text else options_not_checked(parsed, reason)


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
    has_catalog, problems = diagnose(case)

    assert render(problems) == (case / "expected.diagnostics").read_text()
    assert has_catalog is not has_errors(problems)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_problem_is_told_once_at_its_place_and_with_a_remedy(case: Path) -> None:
    _, problems = diagnose(case)

    assert all(problem.span is not None and problem.hint for problem in problems)
    assert len({(problem.span, problem.code, problem.address) for problem in problems}) == len(problems)


def test_there_are_many_bad_files() -> None:
    assert sum((case / "expected.diagnostics").read_text() != "" for case in CASES) >= 80


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

    # KI100 is the file system's: the passes see texts. KI12x are those of commands that change models.yaml.
    assert {code for code in documented - shown if not code.startswith("KI12")} == {"KI100"}
    assert shown <= documented
