"""The lock on disk: several commands at a time, entries that are damaged, links, and what could not be read back."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters import folder_lock
from kloros_infra.adapters.lock_folder import Checkpoint, LockChange, LockFolder
from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, emit_lock
from kloros_infra.compiler.parse_lock import Read, parse_entries
from kloros_infra.compiler.source_builder import MAX_BYTES
from kloros_infra.errors import KlorosError, LockHeldError, ObstacleError, ProblemsError
from kloros_infra.ir.lock import LockedWeights, Origin
from tests.factories import a_gguf_header, a_lock, some_weights
from tests.fakes.small_disk import a_small_disk, can_mount
from tests.needed import need

COMMIT = "c0ffee" * 6 + "cafe"


def add(folder: Path, *entries: LockedWeights) -> None:
    LockFolder(folder).change(LockChange({entry.key: entry for entry in entries}))


def stored(folder: Path) -> Read:
    headers = {f"{HEADERS_FOLDER}/{file.name}": file.read_text() for file in folder.glob(f"{HEADERS_FOLDER}/*")}
    found, problems = parse_entries((folder / LOCK_FILE).read_text(), headers, file=LOCK_FILE)
    assert found is not None, problems
    return found


def code_of(do: Callable[[], object], kind: type[KlorosError]) -> str:
    with pytest.raises(kind) as caught:
        do()
    return caught.value.problems[0].code


def test_a_lock_is_written_as_the_compiler_writes_it(tmp_path: Path) -> None:
    entries = some_weights("b@1"), some_weights("a@1")
    add(tmp_path, *entries)

    for path, text in emit_lock(a_lock(*entries)).items():
        assert (tmp_path / path).read_text() == text


def test_commands_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    before = LockFolder(tmp_path)
    keys = [f"m{number}@1" for number in range(12)]
    threads = [threading.Thread(target=add, args=(tmp_path, some_weights(key))) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before.change(LockChange({"last@1": some_weights("last@1")}, gone={"m3@1"}))

    assert set(stored(tmp_path).lock.weights) == {*keys, "last@1"} - {"m3@1"}
    assert not (tmp_path / HEADERS_FOLDER / "m3@1.json").exists()


def test_who_waits_for_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "LOCK_WAIT_S", 0.05)
    with folder_lock.folder_lock(tmp_path):
        assert code_of(lambda: add(tmp_path, some_weights()), LockHeldError) == "KI127"


def test_an_entry_that_cannot_be_used_stays_beside_new_ones(tmp_path: Path) -> None:
    lost = replace(some_weights("lost@1"), origin=Origin.HUB, revision=COMMIT)
    changed = some_weights("changed@1")
    add(tmp_path, lost, changed)
    (tmp_path / HEADERS_FOLDER / "lost@1.json").unlink()
    (tmp_path / HEADERS_FOLDER / "changed@1.json").write_text("{}")

    add(tmp_path, some_weights("new@1"))

    found = stored(tmp_path)
    assert set(found.lock.weights) == {"new@1"}
    assert found.pins["lost@1"].revision == COMMIT
    assert (tmp_path / HEADERS_FOLDER / "changed@1.json").read_text() == "{}"


def test_headers_that_no_entry_names_go(tmp_path: Path) -> None:
    add(tmp_path, some_weights())
    left = tmp_path / HEADERS_FOLDER / "older@1.json"
    left.write_text("{}")
    left.with_name("a folder.json").mkdir()
    folder = LockFolder(tmp_path)

    folder.change(LockChange())

    assert folder.changed == {f"{HEADERS_FOLDER}/older@1.json"}
    assert sorted(path.name for path in left.parent.iterdir()) == ["a folder.json", "small@1.json"]


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    add(tmp_path, some_weights())
    before = (tmp_path / LOCK_FILE).stat()
    folder = LockFolder(tmp_path)

    folder.change(LockChange({"small@1": some_weights()}))

    assert (folder.changed, (tmp_path / LOCK_FILE).stat()) == (set(), before)


def test_a_link_stays_and_permissions_too(tmp_path: Path) -> None:
    project, real = tmp_path / "project", tmp_path / "real.yaml"
    project.mkdir()
    (project / LOCK_FILE).symlink_to(real)
    add(project, some_weights())
    real.chmod(0o600)

    add(project, some_weights("new@1"))

    assert (project / LOCK_FILE).is_symlink()
    assert set(stored(project).lock.weights) == {"small@1", "new@1"}
    assert real.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "real.yaml"]


@pytest.mark.parametrize(
    "entry",
    [
        replace(some_weights(), origin=Origin.HUB, revision="../../evil"),
        replace(some_weights(), size_bytes=1),
        some_weights(header=replace(a_gguf_header(), architecture="x" * 65)),
        some_weights(source=("file:///" + "x" * MAX_BYTES,)),
    ],
    ids=["commit", "size", "header", "too large"],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, entry: LockedWeights) -> None:
    add(tmp_path, some_weights("sound@1"))

    assert code_of(lambda: add(tmp_path, entry), ObstacleError) == "KI330"
    assert set(stored(tmp_path).lock.weights) == {"sound@1"}


@pytest.mark.parametrize("text", ["<<<<<<< ours\n", "version: 1\n", "\udcff"], ids=["conflict", "no lock", "no text"])
def test_a_lock_that_is_none_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(ProblemsError):
        add(tmp_path, some_weights())
    assert (tmp_path / LOCK_FILE).read_bytes() == text.encode(errors="surrogateescape")


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / HEADERS_FOLDER).write_text("a file")
    assert code_of(lambda: add(tmp_path, some_weights()), ObstacleError) == "KI125"
    (tmp_path / LOCK_FILE).mkdir()
    assert code_of(lambda: add(tmp_path, some_weights()), ObstacleError) == "KI125"
    (tmp_path / LOCK_FILE).rmdir()
    (tmp_path / LOCK_FILE).symlink_to(LOCK_FILE)
    assert code_of(lambda: add(tmp_path, some_weights()), ObstacleError) == "KI125"


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    need(can_mount(tmp_path), "the right to mount a small file system")
    with a_small_disk(tmp_path, 64 * 2**10):
        add(tmp_path, some_weights("sound@1"))
        with pytest.raises(ObstacleError) as caught:
            add(tmp_path, *(some_weights(f"m{number}@1") for number in range(100)))
        assert set(stored(tmp_path).lock.weights) == {"sound@1"}
        assert not list(tmp_path.rglob(".*"))

    (problem,) = caught.value.problems
    assert problem.code == "KI125"
    assert f"{tmp_path}/models.lock/m" in problem.detail
    assert os.strerror(errno.ENOSPC) in problem.detail
    assert "Make room" in problem.hint


def test_what_is_pinned_is_on_disk_at_once_and_beside_what_was_there(tmp_path: Path) -> None:
    add(tmp_path, some_weights("old@1"))

    Checkpoint(LockFolder(tmp_path)).add(some_weights("new@1"))

    assert set(stored(tmp_path).lock.weights) == {"old@1", "new@1"}


def test_a_quick_row_of_entries_is_not_written_one_by_one_and_not_lost_either(tmp_path: Path) -> None:
    written = Checkpoint(LockFolder(tmp_path))
    entries = [some_weights(f"m{number}@1") for number in range(30)]
    for entry in entries:
        written.add(entry)
    assert "m0@1" in stored(tmp_path).lock.weights

    written.write_rest()

    assert set(stored(tmp_path).lock.weights) == {entry.key for entry in entries}


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    Checkpoint(LockFolder(tmp_path)).write_rest()

    assert not list(tmp_path.iterdir())
