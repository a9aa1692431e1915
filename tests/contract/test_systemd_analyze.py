"""systemd's own checks of unit files, as our adapter asks for them and reads them: no systemd has to run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from kloros_infra.adapters.generated_folder import update_folder
from kloros_infra.adapters.systemd_analyze import SystemdAnalyze, check_exposure
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.exposure import Exposure
from kloros_infra.ir.layout import Layout
from tests.needed import need

CHECKOUT = Path(__file__).parents[2]
LIMIT = 1.5
OPEN = "[Service]\nExecStart=/bin/true\n"


@pytest.fixture(scope="module")
def analyze() -> SystemdAnalyze:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    return SystemdAnalyze()


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Compile the project of this repository below a folder, without the programs that apply would add."""
    layout = Layout(prefix=str(tmp_path))
    update_folder(tmp_path, compile_project(read_project(CHECKOUT / "models.yaml"), layout).tree)
    folder = tmp_path / layout.units
    return sorted(path for path in folder.iterdir() if path.is_file())


def programs(units: list[Path]) -> set[str]:
    root = units[0].parents[4]
    return {f"{root}/{Layout().program_path(name)}" for name in ("llama-server", "kloros-infra")}


def codes(problems: Problems) -> set[str]:
    return {problem.code for problem in problems}


def test_units_are_accepted_but_for_programs_that_are_not_there(analyze: SystemdAnalyze, units: list[Path]) -> None:
    found = analyze.verify(units)
    assert codes(found) == {"KI580"}
    assert {problem.address for problem in found} == {unit.name for unit in units if unit.suffix == ".service"}
    assert all("is not executable" in problem.detail for problem in found)


def test_programs_that_are_to_come_are_not_missed(analyze: SystemdAnalyze, units: list[Path]) -> None:
    assert analyze.verify(units, coming=programs(units)) == ()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("NoNewPrivileges=", "NoNewPrivilege=", "Unknown key"),
        ("MemoryMax=", "MemoryMax=lots of ", "Invalid memory limit"),
        ("[Service]", "[Servise]", "Unknown section"),
    ],
)
def test_a_mistake_is_found_at_its_line(
    analyze: SystemdAnalyze, units: list[Path], before: str, after: str, words: str
) -> None:
    broken = next(unit for unit in units if unit.name.startswith("llama@"))
    text = broken.read_text("utf-8").replace(before, after, 1)
    broken.write_text(text, "utf-8")

    found = [problem for problem in analyze.verify(units, coming=programs(units)) if words in problem.detail]

    line = text[: text.index(after)].count("\n") + 1
    (problem,) = found
    assert (problem.code, problem.severity, problem.address) == ("KI580", Severity.ERROR, broken.name)
    assert problem.span is not None
    assert (problem.span.file, problem.span.line) == (str(broken), line)


def test_a_service_that_does_nothing_is_refused_by_name(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    empty = tmp_path / "empty.service"
    empty.write_text("[Unit]\nDescription=x\n")
    (problem,) = analyze.verify([empty])
    assert problem.address == "empty.service"
    assert "has no ExecStart=" in problem.detail


def test_mistakes_of_other_units_are_not_ours(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    ours, other = tmp_path / "ours.service", tmp_path / "other.service"
    ours.write_text(f"[Unit]\nRequires=other.service nowhere.service\n{OPEN}")
    other.write_text(f"{OPEN}Nonsense=yes\n")
    assert analyze.verify([ours]) == ()
    assert [problem.address for problem in analyze.verify([ours, other])] == ["other.service"]


def test_our_services_reach_little_and_an_open_one_much(
    analyze: SystemdAnalyze, units: list[Path], tmp_path: Path
) -> None:
    opened = tmp_path / "opened.service"
    opened.write_text(OPEN)
    exposures, problems = analyze.security([*units, opened])

    assert problems == ()
    assert exposures.keys() == {unit.name for unit in (*units, opened) if unit.suffix == ".service"}
    assert check_exposure(exposures, limit=9.9) == ()
    (problem,) = check_exposure(exposures, limit=2.0)
    assert (problem.code, problem.address) == ("KI582", "opened.service")
    assert "PrivateNetwork (0.5)" in problem.detail


def test_the_worst_settings_come_first(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    opened = tmp_path / "opened.service"
    opened.write_text(OPEN)
    exposure = analyze.security([opened])[0]["opened.service"]
    scores = [score for _, score in exposure.causes]
    assert exposure.score > 9
    assert scores == sorted(scores, reverse=True)
    assert exposure.causes[0] == ("PrivateNetwork", 0.5)


def test_what_cannot_be_loaded_has_no_score_and_is_named(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    empty, opened = tmp_path / "empty.service", tmp_path / "opened.service"
    empty.write_text("[Unit]\nDescription=x\n")
    opened.write_text(OPEN)
    exposures, (problem,) = analyze.security([empty, opened])
    assert (set(exposures), problem.code) == ({"opened.service"}, "KI581")
    assert "no score for empty.service" in problem.detail


def test_nothing_to_check_is_no_problem() -> None:
    assert SystemdAnalyze().verify([]) == ()
    assert SystemdAnalyze().security([Path("some.target")]) == ({}, ())
    assert check_exposure({"a.service": Exposure(LIMIT)}, limit=LIMIT) == ()


def test_without_systemd_analyze_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = tmp_path / "a.service"
    unit.write_text(OPEN)
    monkeypatch.setenv("PATH", str(tmp_path))
    exposures, not_scored = SystemdAnalyze().security([unit])
    assert exposures == {}
    for (problem,) in (SystemdAnalyze().verify([unit]), not_scored):
        assert (problem.code, problem.severity) == ("KI581", Severity.WARNING)
        assert "systemd-analyze" in problem.detail


@pytest.mark.parametrize("status", [1, 0])
def test_an_old_systemd_analyze_is_not_taken_for_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    program = tmp_path / "systemd-analyze"
    program.write_text(f"#!/bin/sh\necho \"unrecognized option '--recursive-errors=no'\" >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    unit = tmp_path / "a.service"
    unit.write_text(OPEN)
    found = SystemdAnalyze().verify([unit])
    assert codes(found) == ({"KI581"} if status else set())


def test_a_thousand_services_are_checked_in_one_call(analyze: SystemdAnalyze, units: list[Path]) -> None:
    pattern = next(unit for unit in units if unit.name.startswith("llama@"))
    many = [pattern.with_name(f"llama@n{number}-max.service") for number in range(1000)]
    for unit in many:
        unit.write_text(pattern.read_text("utf-8"), "utf-8")
    began = time.monotonic()
    assert analyze.verify(many, coming=programs(units)) == ()
    assert len(analyze.security(many)[0]) == 1000
    assert time.monotonic() - began < 30
