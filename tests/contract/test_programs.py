"""Finding llama-server: by path and inside a package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.programs import Program, find_llama_server, hidden_from_units, own_command
from kloros_infra.errors import ObstacleError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a_server_package"
    (folder / "bin").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "bin/llama-server").write_text("#!/bin/sh\n")
    (folder / "bin/llama-server").chmod(0o755)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_an_absolute_path_is_itself(package: Path) -> None:
    file = str(package / "bin/llama-server")
    assert find_llama_server(file) == Program(file)


def test_libraries_beside_the_program_are_told(package: Path) -> None:
    (package / "bin/libllama.so.0").touch()
    found = find_llama_server("package://a_server_package/bin/llama-server")
    assert found == Program(str(package / "bin/llama-server"), str(package / "bin"))


def test_a_package_is_found_without_being_imported(package: Path) -> None:
    find_llama_server("package://a_server_package/bin/llama-server")
    assert "a_server_package" not in sys.modules


@pytest.mark.parametrize(
    "reference",
    [
        "/nowhere/llama-server",
        "/usr/bin",
        "package://not_installed/bin/llama-server",
        "package://not_installed.inner/bin/llama-server",
        "package://a_server_package/bin/other",
        "package:///bin/other",
        "package://sys/bin/other",
    ],
)
def test_what_is_not_there_is_a_clear_error(package: Path, reference: str) -> None:
    with pytest.raises(ObstacleError) as caught:
        find_llama_server(reference)
    problem = caught.value.problems[0]
    assert problem.code == "KI514"
    assert reference in problem.detail
    assert "pip install 'kloros-infra[demo]'" in problem.hint


def test_a_file_that_cannot_be_run_is_a_clear_error(package: Path) -> None:
    (package / "bin/llama-server").chmod(0o644)
    with pytest.raises(ObstacleError) as caught:
        find_llama_server(str(package / "bin/llama-server"))
    assert caught.value.problems[0].code == "KI515"


def test_our_own_command_runs_us() -> None:
    argv = [*own_command(), "--version"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "kloros-infra" in answer.stdout


@pytest.mark.parametrize("folder", ["/home/u/venv/bin", "/tmp/venv", "/var/tmp/x", "/run/user/1000/x"])
def test_a_program_in_a_folder_that_units_cannot_see_is_reported(folder: str) -> None:
    (problem,) = hidden_from_units(Program(f"{folder}/python"))
    assert problem.code == "KI519"
    assert folder in problem.detail


def test_a_link_into_a_hidden_folder_is_reported_and_a_system_program_is_not(tmp_path: Path) -> None:
    assert hidden_from_units(Program("/usr/bin/env")) == ()
    assert hidden_from_units(Program("/homes/python")) == ()
    link = tmp_path / "python"
    link.symlink_to("/home/u/python")
    problems = hidden_from_units(Program(str(link)))
    assert [problem.code for problem in problems] == ["KI519"]
