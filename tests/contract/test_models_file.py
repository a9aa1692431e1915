"""Edits of real files: whole or not at all, with their permissions, through links, one at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from kloros_infra.adapters import folder_lock
from kloros_infra.adapters.models_file import FileChange, edit_models_files
from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.editing.edits import AppendItem, Edit, SetValue, model_at
from kloros_infra.errors import KlorosError, LockHeldError, ObstacleError, ProblemsError
from tests.needed import need

TEXT = """\
models:
  - id: a   # the only one
    current_version: "1"
    versions: ["1", "2"]
"""
PROMOTE = SetValue((*model_at("a"), "current_version"), "2")
PROMOTED = TEXT.replace('current_version: "1"', 'current_version: "2"')


def accept(texts: Mapping[str, str]) -> Problems:
    return ()


def edit(
    file: Path, *edits: Edit, parts: Sequence[Path] = (), check: Callable[[Mapping[str, str]], Problems] = accept
) -> Sequence[FileChange]:
    return edit_models_files([file, *parts], lambda _: edits, check=check)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def code_of(error: KlorosError) -> str:
    (problem,) = error.problems
    return problem.code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Lay out a file with a model, and a root file whose purposes name it."""
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "a.yaml"
    path.write_text(TEXT)
    (tmp_path / "models.yaml").write_text("include: [models/a.yaml]\npurposes:\n  fast: {candidates: [a]}\n")
    return path


def test_an_edit_replaces_the_file_and_leaves_nothing_else(file: Path) -> None:
    file.chmod(0o640)
    assert edit(file, PROMOTE) == (FileChange(file, TEXT, PROMOTED),)
    assert file.read_text() == PROMOTED
    assert file.stat().st_mode & 0o7777 == 0o640
    assert names_in(file.parent) == ["models.yaml"]


def test_the_bytes_of_line_ends_and_mark_stay(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    edit(file, PROMOTE)
    assert file.read_bytes() == b"\xef\xbb\xbf" + PROMOTED.replace("\n", "\r\n").encode()


def test_owner_and_attributes_stay(file: Path) -> None:
    need(os.geteuid() == 0, "root, to give files away")
    os.chown(file, 12345, 23456)
    is_supported = True
    try:
        os.setxattr(file, "user.origin", b"ours")
    except OSError:
        is_supported = False
    edit(file, PROMOTE)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)
    assert not is_supported or os.getxattr(file, "user.origin") == b"ours"


def test_a_link_stays_and_its_target_is_edited(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "models.yaml"
    link.parent.mkdir()
    link.symlink_to("../models.yaml")
    edit(link, PROMOTE)
    assert link.is_symlink()
    assert file.read_text() == PROMOTED


def test_an_edit_without_effect_writes_nothing(file: Path) -> None:
    before = file.stat()
    assert edit(file, SetValue((*model_at("a"), "current_version"), "1")) == ()
    assert file.stat() == before


def test_what_the_check_refuses_is_not_written(file: Path) -> None:
    refusal = Diagnostic("KI205", "Unknown version", "", "")
    seen: list[Mapping[str, str]] = []

    def refuse(texts: Mapping[str, str]) -> Problems:
        seen.append(texts)
        return (refusal,)

    with pytest.raises(ProblemsError, match="KI205"):
        edit(file, PROMOTE, check=refuse)
    assert seen == [{str(file): PROMOTED}]
    assert file.read_text() == TEXT


def test_a_warning_does_not_stop_an_edit(file: Path) -> None:
    warning = Diagnostic("KI224", "Unused", "", "", severity=Severity.WARNING)
    edit(file, PROMOTE, check=lambda _: (warning,))
    assert file.read_text() == PROMOTED


def test_an_edit_that_cannot_be_made_changes_nothing(file: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        edit(file, PROMOTE, SetValue((*model_at("b"), "current_version"), "2"))
    assert code_of(caught.value) == "KI122"
    assert file.read_text() == TEXT


def test_edits_in_two_files_land_together(part: Path) -> None:
    root = part.parents[1] / "models.yaml"
    made = edit(root, PROMOTE, SetValue(("purposes", "slow"), {"candidates": ["a"]}), parts=[part])
    assert [change.file for change in made] == [part, root]
    assert part.read_text() == PROMOTED
    assert root.read_text().endswith("  slow: {candidates: [a]}\n")


def test_what_a_killed_edit_left_is_swept_up(file: Path) -> None:
    (file.parent / ".models.yaml.kloros-edit").write_text("half")
    edit(file, PROMOTE)
    assert names_in(file.parent) == ["models.yaml"]


def test_a_change_by_someone_else_is_not_lost(file: Path) -> None:
    def meanwhile(texts: Mapping[str, str]) -> Problems:
        file.write_text("theirs\n")
        return ()

    with pytest.raises(ObstacleError) as caught:
        edit(file, PROMOTE, check=meanwhile)
    assert code_of(caught.value) == "KI126"
    assert file.read_text() == "theirs\n"
    assert names_in(file.parent) == ["models.yaml"]


def test_the_first_file_is_put_back_when_the_second_cannot_be_replaced(part: Path) -> None:
    root = part.parents[1] / "models.yaml"

    def meanwhile(texts: Mapping[str, str]) -> Problems:
        root.write_text("theirs\n")
        return ()

    with pytest.raises(ObstacleError) as caught:
        edit(root, PROMOTE, SetValue(("purposes", "slow"), {"candidates": ["a"]}), parts=[part], check=meanwhile)
    assert code_of(caught.value) == "KI126"
    assert part.read_text() == TEXT
    assert names_in(part.parent) == ["a.yaml"]


def test_edits_at_the_same_time_are_all_kept(file: Path) -> None:
    def add(texts: Mapping[str, str]) -> Sequence[Edit]:
        count = texts[str(file)].count('"')
        return [AppendItem((*model_at("a"), "versions"), f"v{count}")]

    threads = [threading.Thread(target=lambda: edit_models_files([file], add, check=accept)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == TEXT.replace('"2"]', '"2", ' + ", ".join(f'"v{6 + 2 * n}"' for n in range(8)) + "]")


def test_a_lock_that_is_not_let_go_is_waited_for_and_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "LOCK_WAIT_S", 0.05)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(LockHeldError) as caught:
            edit(file, PROMOTE)
    finally:
        os.close(descriptor)
    assert code_of(caught.value) == "KI127"
    assert file.read_text() == TEXT


@pytest.mark.parametrize("content", [None, b"a: \xff\n", "folder", "loop"])
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "models.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "loop":
        path.symlink_to(path)
    with pytest.raises(ProblemsError) as caught:
        edit(path, PROMOTE)
    assert code_of(caught.value) == "KI124"


def test_a_part_that_is_missing_is_named(part: Path) -> None:
    root = part.parents[1] / "models.yaml"
    part.unlink()
    with pytest.raises(ProblemsError, match=r"KI124 .*models/a\.yaml"):
        edit(root, SetValue(("purposes", "slow"), {"candidates": ["a"]}), parts=[part])


def test_a_file_or_folder_that_may_not_be_written_is_left_alone(file: Path) -> None:
    need(os.geteuid() == 0, "root, to become somebody else")
    os.chown(file.parent, 12345, 12345)
    for parent in file.parent.parents[:3]:
        parent.chmod(0o755)
    file.chmod(0o644)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(12345)
            edit(file, PROMOTE)
        except ObstacleError as error:
            status = 0 if code_of(error) == "KI125" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert file.read_text() == TEXT
    assert names_in(file.parent) == ["models.yaml"]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root, to become a user without rights")
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "models.yaml").write_text(TEXT)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    folder.chmod(0o311)
    os.seteuid(65534)
    try:
        with pytest.raises(ObstacleError) as caught:
            edit(folder / "models.yaml", PROMOTE)
    finally:
        os.seteuid(0)
    (problem,) = caught.value.problems
    assert problem.code == "KI125"
    assert f"{folder}: Permission denied" in problem.detail
