"""Whose log is meant: by a unit's name, an instance's, a model's, or a service's of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.cli.unit_logs import installed_unit
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout

UNITS = ("llama@code-large-max.service", "llama@code-large-mid.service", "kloros-router.service")


@pytest.fixture
def where(tmp_path: Path) -> Target:
    folder = tmp_path / Layout().units
    folder.mkdir(parents=True)
    for unit in UNITS:
        (folder / unit).touch()
    return Target(tmp_path, ManagerChoice.SUPERVISOR)


@pytest.mark.parametrize(
    ("asked", "unit"),
    [
        ("llama@code-large-mid.service", "llama@code-large-mid.service"),
        ("code-large-mid", "llama@code-large-mid.service"),
        ("code-large", "llama@code-large-max.service"),
        ("router", "kloros-router.service"),
    ],
)
def test_a_unit_has_several_names(where: Target, asked: str, unit: str) -> None:
    assert installed_unit(where, asked) == unit


def test_an_unknown_name_is_refused_with_a_suggestion(where: Target) -> None:
    with pytest.raises(ProblemsError) as caught:
        installed_unit(where, "code-larg")
    assert [problem.code for problem in caught.value.problems] == ["KI524"]
    assert "code-large" in caught.value.problems[0].hint
