"""What apply expects of target files, of the fake and of the real ones; then what only real ones can show."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.adapters import installed_record
from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.ports import TargetFiles
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed
from kloros_infra.ir.on_change import Definition, Kept
from tests.fakes.files import FakeFiles
from tests.fakes.generations import FakeGenerations

RECORD = "var/lib/kloros-infra/installed.json"
A_DIGEST = "ab" * 32


@pytest.fixture(params=["fake", "real"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> TargetFiles:
    return FakeFiles() if request.param == "fake" else RootedFiles(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> RootedFiles:
    return RootedFiles(tmp_path)


@pytest.mark.parametrize(
    "artifact",
    [TextFile("a text – ü\n"), TextFile("", 0o600), TextFile("#!/bin/sh\n", 0o755), Link("../elsewhere")],
    ids=["text", "empty", "program", "link"],
)
def test_what_is_written_is_read_again(files: TargetFiles, artifact: TextFile | Link) -> None:
    files.write("etc/a/b/file", artifact)
    assert files.read("etc/a/b/file") == artifact


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_what_lies_below_current_is_the_generations_own(tmp_path: Path, kind: str) -> None:
    generations = FakeGenerations() if kind == "fake" else GenerationFolders(tmp_path)
    files = FakeFiles(generations=generations) if isinstance(generations, FakeGenerations) else RootedFiles(tmp_path)
    for number in (1, 2):
        generations.stage(number, {"units/a.service": TextFile("one\n"), "env/a.env": TextFile("A='1'\n")})
    generations.flip(2)
    path = f"{Layout().units}/a.service"
    files.write(path, TextFile("two\n"))
    files.remove(f"{Layout().env}/a.env")
    assert files.read(path) == TextFile("two\n")
    assert generations.read(2, "units/a.service") == TextFile("two\n")
    assert generations.read(2, "env/a.env") is None
    assert generations.read(1, "units/a.service") == TextFile("one\n")
    assert generations.history().current == 2


def test_a_path_that_holds_nothing_is_none(files: TargetFiles) -> None:
    assert files.read("etc/nothing/here") is None


def test_a_second_write_replaces_the_first_whatever_it_was(files: TargetFiles) -> None:
    files.write("etc/file", TextFile("one", 0o755))
    files.write("etc/file", Link("somewhere"))
    files.write("etc/file", TextFile("three", 0o640))
    assert files.read("etc/file") == TextFile("three", 0o640)


def test_removing_twice_is_as_good_as_once(files: TargetFiles) -> None:
    files.write("etc/file", TextFile("one"))
    files.remove("etc/file")
    files.remove("etc/file")
    files.remove("etc/other/file")
    assert files.read("etc/file") is None


def test_nothing_is_installed_at_first(files: TargetFiles) -> None:
    assert files.installed() == Installed()


def test_the_record_is_read_as_written(files: TargetFiles) -> None:
    record = Installed({"etc/b": A_DIGEST, "etc/a": A_DIGEST}, is_unfinished=True, owed=frozenset({"x.service"}))
    files.record_installed(record)
    assert files.installed() == record


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "etc/../../outside", ""])
def test_a_path_that_leaves_the_root_is_refused(files: TargetFiles, path: str) -> None:
    for attempt in (files.read, files.remove, lambda path: files.write(path, TextFile(""))):
        with pytest.raises(ObstacleError) as caught:
            attempt(path)
        assert caught.value.problems[0].code == "KI516"


def test_a_folder_that_was_read_from_vouches_for_no_other_path(files: TargetFiles) -> None:
    for path in ("file", "etc/file"):
        files.write(path, TextFile(""))
        assert files.read(path) == TextFile("")
    for path in ("/etc", "/etc/passwd", "..", "etc/..", ""):
        with pytest.raises(ObstacleError) as caught:
            files.read(path)
        assert caught.value.problems[0].code == "KI516"


def test_free_space_is_known_where_nothing_is_yet(files: TargetFiles) -> None:
    assert files.free_bytes("var/lib/not/yet/there") > 0


def test_a_link_that_leads_out_of_the_root_is_not_followed(real: RootedFiles, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "outside").mkdir()
    (root / "etc").mkdir(parents=True)
    (root / "etc/out").symlink_to(tmp_path / "outside")
    (root / "etc/in").symlink_to("inside")
    (root / "etc/inside").mkdir()
    files = RootedFiles(root)
    with pytest.raises(ObstacleError):
        files.write("etc/out/file", TextFile("x"))
    files.write("etc/in/file", TextFile("x"))
    assert (root / "etc/inside/file").read_text() == "x"
    assert not list((tmp_path / "outside").iterdir())


def test_a_link_in_the_place_itself_is_replaced_not_followed(real: RootedFiles, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").symlink_to(tmp_path / "victim")
    real.write("etc/file", TextFile("ours"))
    assert (tmp_path / "victim").read_text() == "untouched"
    assert real.read("etc/file") == TextFile("ours")


def test_modes_do_not_depend_on_the_umask(real: RootedFiles, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        real.write("etc/a/b/file", TextFile("x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "etc/a/b/file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "etc/a/b").stat().st_mode) == 0o755


def test_bytes_that_are_not_text_survive_an_undo(real: RootedFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\x00\r\nabc")
    (tmp_path / "file").chmod(0o644)
    found = real.read("file")
    assert found is not None
    real.write("file", TextFile("ours"))
    real.write("file", found)
    assert (tmp_path / "file").read_bytes() == b"\xff\x00\r\nabc"


def test_a_folder_in_the_way_is_reported(real: RootedFiles, tmp_path: Path) -> None:
    (tmp_path / "etc/file").mkdir(parents=True)
    with pytest.raises(ObstacleError) as caught:
        real.read("etc/file")
    assert caught.value.problems[0].code == "KI517"


def test_a_file_where_a_folder_belongs_is_no_file_of_ours(real: RootedFiles, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    assert real.read("etc/file") is None
    real.remove("etc/file")
    with pytest.raises(OSError, match="etc"):
        real.write("etc/file", TextFile("x"))


def test_folders_of_ours_that_become_empty_go_and_those_of_others_stay(real: RootedFiles, tmp_path: Path) -> None:
    layout = Layout()
    env, unit = "etc/kloros-infra/env/a.env", f"{layout.former_units}/multi-user.target.wants/x.target"
    for path in (env, unit, layout.profile_file, "usr/lib/kloros-infra/bin/p", "etc/tmpfiles.d/x.conf"):
        real.write(path, TextFile("x"))
        real.remove(path)
    left = {str(folder.relative_to(tmp_path)) for folder in tmp_path.rglob("*")}
    own = {"run", "usr", "usr/lib", "etc", "etc/systemd", "etc/systemd/system", "etc/tmpfiles.d"}
    assert left == own


def test_a_folder_that_still_holds_something_stays(real: RootedFiles, tmp_path: Path) -> None:
    real.write("etc/kloros-infra/env/a.env", TextFile("x"))
    (tmp_path / "etc/kloros-infra/notes").write_text("mine")
    real.remove("etc/kloros-infra/env/a.env")
    assert [path.name for path in (tmp_path / "etc/kloros-infra").iterdir()] == ["notes"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(real: RootedFiles, tmp_path: Path) -> None:
    real.write("etc/file", TextFile("old"))
    with pytest.raises(UnicodeEncodeError):
        real.write("etc/file", TextFile("half \ud800"))
    assert [(path.name, path.read_text()) for path in (tmp_path / "etc").iterdir()] == [("file", "old")]


def test_what_a_killed_run_left_is_overwritten_and_swept(real: RootedFiles, tmp_path: Path) -> None:
    for path in ("etc/systemd/system/.a.service.kloros-tmp", "etc/systemd/system/.gone.service.kloros-tmp"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("half")
    real.write("etc/systemd/system/a.service", TextFile("whole"))
    real.record_installed(Installed({}, is_unfinished=True))
    assert (tmp_path / "etc/systemd/system/.gone.service.kloros-tmp").exists()
    real.record_installed(Installed({"etc/systemd/system/a.service": A_DIGEST}))
    assert [path.name for path in (tmp_path / "etc/systemd/system").iterdir()] == ["a.service"]


def test_the_same_record_gives_the_same_bytes() -> None:
    one = Installed({"b": A_DIGEST, "a": A_DIGEST}, owed=frozenset({"y", "x"}))
    two = Installed({"a": A_DIGEST, "b": A_DIGEST}, owed=frozenset({"x", "y"}))
    assert installed_record.to_text(one) == installed_record.to_text(two)


A_KEPT = Kept(7, 1.25, Definition("[Unit]\n", {"B": "é", "A": "2"}, A_DIGEST, {"var/w": A_DIGEST}))


def test_what_was_left_running_is_remembered() -> None:
    record = Installed({"etc/a": A_DIGEST}, kept={"b.service": A_KEPT, "a.service": replace(A_KEPT, started_s=None)})
    assert installed_record.from_text(installed_record.to_text(record)) == record


def test_a_record_without_it_is_as_older_programs_read_it() -> None:
    assert '"version": 2,' in installed_record.to_text(Installed({"etc/a": A_DIGEST}))
    assert '"version": 3,' in installed_record.to_text(Installed({}, kept={"a.service": A_KEPT}))


@given(st.data(), st.sampled_from([{}, {"a.service": A_KEPT}]))
def test_a_record_with_any_byte_changed_is_reported_not_believed(data: st.DataObject, kept: dict[str, Kept]) -> None:
    text = installed_record.to_text(Installed({"etc/a": A_DIGEST}, owed=frozenset({"x.service"}), kept=kept))
    raw = bytearray(text.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    assert installed_record.from_text(raw.decode("utf-8", "surrogateescape")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', "\x00" * 100, "[" * 100_000])
def test_a_damaged_record_is_a_clear_error(real: RootedFiles, text: str) -> None:
    real.write(RECORD, TextFile(text))
    with pytest.raises(ObstacleError) as caught:
        real.installed()
    assert caught.value.problems[0].code == "KI518"


def test_a_link_in_place_of_the_record_is_a_clear_error(real: RootedFiles) -> None:
    real.write(RECORD, Link("/dev/null"))
    with pytest.raises(ObstacleError):
        real.installed()


def test_a_record_cannot_name_paths_outside() -> None:
    assert installed_record.from_text(installed_record.to_text(Installed({"/etc/passwd": A_DIGEST}))) is None
