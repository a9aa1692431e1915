"""Lockout files on a disk: whatever is there is told, and nothing is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kloros_infra.adapters.lockout_files import (
    LOCKOUT_FILE,
    LOCKOUT_FOLDER,
    MAX_BYTES,
    MAX_FILES,
    lockout_files,
)
from kloros_infra.ir.card_facts import PolicyFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / LOCKOUT_FILE
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / LOCKOUT_FOLDER
    path.mkdir(parents=True)
    return path


def obstacle(root: Path) -> str:
    (found,) = lockout_files(root)
    assert found.text is None
    return found.obstacle


def test_without_files_there_are_none(tmp_path: Path, file: Path) -> None:
    assert lockout_files(tmp_path) == ()
    assert lockout_files(tmp_path / "nowhere") == ()


def test_the_file_and_those_of_the_folder_are_read_by_name(tmp_path: Path, file: Path, folder: Path) -> None:
    file.write_text("one")
    (folder / "b.json").write_text("\N{ZERO WIDTH NO-BREAK SPACE}three")
    (folder / "a.json").write_text("two")
    for name in (".a.json", "a.json~", "a.json.new", "readme"):
        (folder / name).write_text("not this one")
    assert lockout_files(tmp_path) == (
        PolicyFile("/etc/kloros/gpu_lockout", "one"),
        PolicyFile("/etc/kloros/gpu_lockouts.d/a.json", "two"),
        PolicyFile("/etc/kloros/gpu_lockouts.d/b.json", "three"),
    )


def test_a_large_file_is_told(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b" " * MAX_BYTES)
    assert lockout_files(tmp_path)[0].text == " " * MAX_BYTES
    file.write_bytes(b" " * (MAX_BYTES + 1))
    assert obstacle(tmp_path) == "it is larger than 64 KiB"


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path, file: Path) -> None:
    os.mkfifo(file)
    assert obstacle(tmp_path) == "it is no regular file"
    file.unlink()
    file.mkdir()
    assert obstacle(tmp_path) == "it is no regular file"


def test_what_is_no_text_is_told(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    assert obstacle(tmp_path) == "it is not UTF-8 text"


def test_a_link_is_followed_and_one_to_nothing_is_told(tmp_path: Path, file: Path) -> None:
    file.symlink_to(tmp_path / "elsewhere")
    assert obstacle(tmp_path) == "it is a link to nothing"
    (tmp_path / "elsewhere").write_text("text")
    assert lockout_files(tmp_path)[0].text == "text"
    file.unlink()
    file.symlink_to(file)
    assert "symbolic link" in obstacle(tmp_path)


def test_a_folder_that_is_none_is_told(tmp_path: Path, file: Path) -> None:
    (tmp_path / LOCKOUT_FOLDER).write_text("")
    assert lockout_files(tmp_path) == (PolicyFile("/etc/kloros/gpu_lockouts.d/", None, "Not a directory"),)


def test_no_more_files_are_read_than_anybody_needs_and_those_of_commands_are_first(
    tmp_path: Path, folder: Path
) -> None:
    for number in range(MAX_FILES + 3):
        (folder / f"{number:04}.json").write_text("")
    for name in ("rtx3060.json", "rtx3060@release.json"):
        (folder / name).write_text("{}")
    first, second, *others, last = lockout_files(tmp_path, ["rtx5080", "rtx3060"])
    at = f"/{LOCKOUT_FOLDER}"
    assert [first, second] == [
        PolicyFile(f"{at}/rtx3060.json", "{}"),
        PolicyFile(f"{at}/rtx3060@release.json", "{}"),
    ]
    assert len(others) == MAX_FILES - 2
    assert last.name == at
    assert last.obstacle == "there are more than 256 files in it, so 5 are not looked at"
    assert last.others == tuple(f"{at}/{number:04}.json" for number in range(MAX_FILES - 2, MAX_FILES + 3))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xff.json", "\\xff.json"),
        (b"a\x1b[2J\nb.json", "a\\x1b[2J\\nb.json"),
        ("\u202e.json".encode(), "\\u202e.json"),
    ],
)
def test_a_name_can_be_shown_and_does_not_steer_the_terminal(
    tmp_path: Path, folder: Path, name: bytes, shown: str
) -> None:
    (folder / os.fsdecode(name)).write_text("{}")
    (found,) = lockout_files(tmp_path)
    assert found == PolicyFile(f"/etc/kloros/gpu_lockouts.d/{shown}", "{}")


def test_what_may_not_be_read_is_told(tmp_path: Path, file: Path, folder: Path) -> None:
    file.write_text("{}")
    (folder / "a.json").write_text("{}")
    for parent in (*tmp_path.parents[:2], tmp_path):
        parent.chmod(0o755)
    file.chmod(0)
    folder.chmod(0o311)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        found = [(one.name, one.obstacle) for one in lockout_files(tmp_path)]
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)
    assert found == [
        ("/etc/kloros/gpu_lockout", "Permission denied"),
        ("/etc/kloros/gpu_lockouts.d/", "Permission denied"),
    ]
