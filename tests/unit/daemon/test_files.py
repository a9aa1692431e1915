"""The files that steer the router, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.daemon.files import read_profile, read_table
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import RoutingTable
from tests.factories import a_routing_table

TABLE = a_routing_table(profiles=("max", "cpu_only"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def read(file: Path) -> RoutingTable | Diagnostic:
    return read_table(WatchedFile(file))


def test_a_table_is_read_as_it_was_written(file: Path) -> None:
    file.write_text(TABLE.model_dump_json())
    assert read(file) == TABLE


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "EOF"),
        (TABLE.model_dump_json()[:-20], "EOF"),
        ("{}", "required"),
        (TABLE.model_copy(update={"profiles": ()}).model_dump_json(), "no profiles"),
        (TABLE.model_dump_json().replace('"bridge"', '"bridges"'), "bridge"),
    ],
)
def test_a_broken_table_is_a_problem_that_says_where(file: Path, text: str, word: str) -> None:
    file.write_text(text)
    problem = read(file)
    assert isinstance(problem, Diagnostic)
    assert problem.code == "KI813"
    assert str(file) in problem.detail
    assert word in problem.detail


def test_a_table_of_another_version_is_told_from_a_broken_one(file: Path) -> None:
    file.write_text('{"models": [], "version": 1}')
    problem = read(file)
    assert isinstance(problem, Diagnostic)
    assert problem.code == "KI819"
    assert f"{file} is of version 1" in problem.detail


def test_an_absent_table_and_one_that_is_not_text_are_problems(file: Path) -> None:
    assert isinstance(read(file), Diagnostic)
    file.write_bytes(b"\xff")
    problem = read(file)
    assert isinstance(problem, Diagnostic)
    assert "UTF-8" in problem.detail


@pytest.mark.parametrize(
    ("text", "current", "profile", "code"),
    [
        ("max\n", None, "max", None),
        ("max", "cpu_only", "max", None),
        ("mid\n", "max", "max", "KI814"),
        ("mid\n", None, "cpu_only", "KI814"),
        ("mid\n", "gone", "cpu_only", "KI814"),
        ("", "max", "max", "KI814"),
        (None, "max", "max", "KI818"),
        (None, None, "cpu_only", "KI818"),
    ],
)
def test_the_profile_file_names_the_profile_and_else_the_current_or_last_is_kept(
    file: Path, text: str | None, current: str | None, profile: str, code: str | None
) -> None:
    if text is not None:
        file.write_text(text)
    found, problem = read_profile(WatchedFile(file), TABLE, current)
    assert (found, problem and problem.code) == (profile, code)


def test_a_watched_file_shows_that_it_was_replaced_written_or_removed(file: Path) -> None:
    watched = WatchedFile(file)
    stamps = [watched.stamp()]
    file.write_text("one")
    stamps.append(watched.stamp())
    assert watched.stamp() == stamps[-1]
    file.write_text("longer")
    stamps.append(watched.stamp())
    replacement = file.with_suffix(".new")
    replacement.write_text("longer")
    replacement.rename(file)
    stamps.append(watched.stamp())
    assert stamps[0] is None
    assert len(set(stamps)) == 4
