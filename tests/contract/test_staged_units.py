"""Units of a staged generation as systemd-analyze sees them, before any of them is current."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kloros_infra.adapters.generated_folder import read_tree
from kloros_infra.adapters.staged_units import StagedUnits, UncheckedUnits
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.emit_cases import EMIT_CASES
from tests.needed import need

LAYOUT = Layout()
UNIT = "kloros-staged.service"


@pytest.fixture(autouse=True)
def systemd_analyze() -> None:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")


def stage(root: Path, text: str) -> None:
    units = root / LAYOUT.generation_path(4) / "units"
    units.mkdir(parents=True)
    (units / UNIT).write_text(text)


def codes(root: Path, limit: float | None) -> list[str]:
    return [problem.code for problem in StagedUnits(root, LAYOUT).problems(4, limit)]


def test_a_key_that_systemd_does_not_know_is_found(tmp_path: Path) -> None:
    stage(tmp_path, "[Service]\nExecStart=/bin/true\nNoNewPrivilegs=yes\n")
    assert codes(tmp_path, None) == ["KI580"]


def test_an_open_service_is_found_where_a_limit_is_set(tmp_path: Path) -> None:
    stage(tmp_path, "[Service]\nExecStart=/bin/true\n")
    assert codes(tmp_path, None) == []
    assert codes(tmp_path, 10) == []
    assert codes(tmp_path, 5) == ["KI582"]


def test_without_systemd_analyze_it_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, "[Service]\nExecStart=/bin/true\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = StagedUnits(tmp_path, LAYOUT).problems(4, 2)
    assert (problem.code, problem.is_error) == ("KI581", False)


def test_the_embedded_supervisor_asks_for_nothing(tmp_path: Path) -> None:
    stage(tmp_path, "[Service]\nNonsense=yes\n")
    assert UncheckedUnits().problems(4, 0) == ()


def test_emitted_units_pass_with_programs_that_are_still_to_come(tmp_path: Path) -> None:
    case = next(case for case in EMIT_CASES if case.name == "three_gpus_with_shares")
    for path, artifact in read_tree(case / "expected").items():
        if LAYOUT.is_content(path) and isinstance(artifact, TextFile):
            file = tmp_path / LAYOUT.generation_path(4) / LAYOUT.content_name(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(artifact.text)
    programs = tmp_path / LAYOUT.generation_path(4) / LAYOUT.content_name(LAYOUT.programs)
    programs.mkdir()
    for program in ("llama-server", "kloros-infra"):
        (programs / program).write_text("#!/bin/sh\n")
    assert codes(tmp_path, 1.5) == []
