"""The folder of the overrider's answers: what is wanted is there, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.overrider_records import write_records
from kloros_infra.errors import ObstacleError


def test_without_answers_there_is_no_folder(tmp_path: Path) -> None:
    assert write_records(tmp_path, {}) == ()
    assert list(tmp_path.iterdir()) == []


def test_answers_come_change_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "models.lock" / "overrider"

    assert write_records(tmp_path, {"a-max": "1", "b-max": "2"}) == ("a-max.json", "b-max.json")
    assert write_records(tmp_path, {"a-max": "1", "b-max": "3"}) == ("b-max.json",)
    assert write_records(tmp_path, {"b-max": "3"}) == ("a-max.json",)

    assert {file.name: file.read_text() for file in folder.iterdir()} == {"b-max.json": "3"}


def test_other_files_are_left(tmp_path: Path) -> None:
    folder = tmp_path / "models.lock" / "overrider"
    (folder / "kept.json").mkdir(parents=True)
    (folder / "README").write_text("why")

    assert write_records(tmp_path, {}) == ()
    assert {file.name for file in folder.iterdir()} == {"kept.json", "README"}


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.lock").mkdir()
    (tmp_path / "models.lock" / "overrider").write_text("a file")

    with pytest.raises(ObstacleError) as caught:
        write_records(tmp_path, {"a-max": "1"})

    assert caught.value.problems[0].code == "KI125"
    assert "overrider" in caught.value.problems[0].detail
