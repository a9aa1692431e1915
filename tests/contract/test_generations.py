"""Generations, real and imagined: staged whole, switched at once, and never taken away while they are current."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.ports import Generations
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.generation import History
from kloros_infra.ir.layout import Layout
from tests.fakes.generations import FakeGenerations

FILES: dict[str, Artifact] = {
    "units/a.service": TextFile("[Service]\n"),
    "units/x.wants/a.service": Link("../a.service"),
    "bin/program": TextFile("#!/bin/sh\n", 0o755),
    "manifest.json": TextFile("{}\n"),
}
OTHER: dict[str, Artifact] = {"units/b.service": TextFile("[Service]\n"), "manifest.json": TextFile("{}\n")}


@pytest.fixture(params=["fake", "real"])
def generations(request: pytest.FixtureRequest, tmp_path: Path) -> Generations:
    return FakeGenerations() if request.param == "fake" else GenerationFolders(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> GenerationFolders:
    return GenerationFolders(tmp_path)


def test_a_new_root_has_no_history(generations: Generations) -> None:
    assert generations.history() == History()
    assert generations.read(1, "units/a.service") is None


def test_what_was_staged_is_read_back_and_not_yet_current(generations: Generations) -> None:
    generations.stage(1, FILES)
    assert generations.history() == History(numbers=(1,))
    assert {name: generations.read(1, name) for name in FILES} == FILES
    assert generations.read(1, "units/none.service") is None


def test_a_flip_and_a_mark_are_told_and_taken_back(generations: Generations) -> None:
    for number in (1, 2, 10):
        generations.stage(number, FILES)
    generations.flip(2)
    generations.mark_last_good(1)
    assert generations.history() == History((1, 2, 10), current=2, last_good=1)
    generations.flip(10)
    assert generations.history().current == 10
    generations.flip(None)
    generations.mark_last_good(None)
    assert generations.history() == History((1, 2, 10))


def test_staging_a_number_again_replaces_all_of_it(generations: Generations) -> None:
    generations.stage(1, FILES)
    generations.stage(1, OTHER)
    assert generations.read(1, "units/a.service") is None
    assert generations.read(1, "units/b.service") == OTHER["units/b.service"]


def test_a_removed_generation_is_gone_and_removing_it_again_does_nothing(generations: Generations) -> None:
    generations.stage(1, FILES)
    generations.stage(2, FILES)
    generations.remove(1)
    generations.remove(1)
    assert generations.history().numbers == (2,)


def test_the_current_one_is_neither_replaced_nor_removed(real: GenerationFolders) -> None:
    real.stage(1, FILES)
    real.flip(1)
    with pytest.raises(ObstacleError) as caught:
        real.stage(1, OTHER)
    assert caught.value.problems[0].code == "KI594"
    with pytest.raises(ObstacleError):
        real.remove(1)
    assert real.read(1, "units/a.service") == FILES["units/a.service"]


def test_current_shows_the_files_where_the_layout_says(real: GenerationFolders, tmp_path: Path) -> None:
    layout = Layout()
    real.stage(7, FILES)
    real.flip(7)
    assert (tmp_path / layout.unit_path("a.service")).read_text() == "[Service]\n"
    assert (tmp_path / layout.current).readlink() == Path("generations/7")


def test_modes_do_not_depend_on_the_umask(real: GenerationFolders, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        real.stage(1, FILES)
    finally:
        os.umask(before)
    folder = tmp_path / Layout().generation_path(1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()} == {0o755}
    assert stat.S_IMODE((folder / "units/a.service").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "units/../../a", ""])
def test_a_name_cannot_lead_out_of_its_generation(real: GenerationFolders, name: str) -> None:
    real.stage(1, FILES)
    with pytest.raises(ObstacleError) as caught:
        real.read(1, name)
    assert caught.value.problems[0].code == "KI593"
    with pytest.raises(ObstacleError):
        real.stage(2, {name: TextFile("x")})
    assert real.history().numbers == (1,)


def test_a_link_that_is_not_ours_marks_nothing(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(1, FILES)
    for target in ("/etc", "generations/one", "../1"):
        link = tmp_path / Layout().current
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert real.history().current is None


def test_the_booted_one_is_that_before_the_first_flip_of_this_boot(real: GenerationFolders, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        real.stage(number, FILES)
    real.flip(1)
    assert real.history().booted is None, "this boot began without a generation"
    file = tmp_path / Layout().booted_file
    file.write_text("1 another-boot\n")
    assert real.history().booted is None
    for number in (2, 3):
        real.flip(number)
        assert real.history().booted == 1
    real.note_boot()
    assert real.history().booted == 1
    file.unlink()
    real.note_boot()
    assert real.history().booted == 3


@pytest.mark.parametrize("text", ["", "3", "x y z", "3 \xff"])
def test_a_damaged_note_of_the_boot_marks_nothing(real: GenerationFolders, tmp_path: Path, text: str) -> None:
    file = tmp_path / Layout().booted_file
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    assert real.history().booted is None


def test_what_is_no_generation_of_ours_is_left_alone(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(2, FILES)
    folder = tmp_path / Layout().generations
    (folder / "7").write_text("a file")
    (folder / "07").mkdir()
    (folder / "8x").mkdir()
    assert real.history().numbers == (2,)
    real.stage(7, FILES)
    assert real.history().numbers == (2, 7)
    assert {path.name for path in folder.iterdir()} == {"2", "7", "07", "8x"}


def test_a_current_generation_whose_folder_is_gone_is_still_told(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(1, FILES)
    real.flip(1)
    (tmp_path / Layout().generation_path(1)).rename(tmp_path / "elsewhere")
    assert real.history() == History((), current=1)


def test_the_next_change_takes_away_a_link_that_a_killed_run_left(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(1, FILES)
    left = tmp_path / "etc/kloros-infra/.current.kloros-tmp"
    left.symlink_to("generations/1")
    real.flip(None)
    assert not left.is_symlink()
    real.remove(1)
    assert not (tmp_path / "etc/kloros-infra").exists()


def test_a_generation_of_many_files_is_whole(real: GenerationFolders) -> None:
    many: dict[str, Artifact] = {f"units/{number}.service": TextFile(f"{number}\n") for number in range(500)}
    real.stage(1, many)
    assert {name: real.read(1, name) for name in many} == many


def test_the_folder_of_all_goes_with_the_last_one(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(1, FILES)
    real.remove(1)
    assert not (tmp_path / "etc/kloros-infra").exists()


def test_a_stage_that_fails_leaves_nothing(real: GenerationFolders, tmp_path: Path) -> None:
    real.stage(1, FILES)
    with pytest.raises(UnicodeEncodeError):
        real.stage(2, {**FILES, "units/z.service": TextFile("half \ud800")})
    assert [path.name for path in (tmp_path / Layout().generations).iterdir()] == ["1"]
