"""The store of weights: whole or not at all, the locked bytes or none."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kloros_infra.adapters.local_files import LocalFiles
from kloros_infra.adapters.weights_store import PARTIAL, WeightsFolder
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.place_weights import PlaceWeights, StoredFile
from kloros_infra.ir.split_gguf import set_sha256, stored_names
from tests.fakes.small_disk import a_small_disk, can_mount
from tests.fakes.weights import HeldFile, HeldFiles
from tests.needed import need

CONTENT = bytes(range(256)) * 5000
DESTINATION = "var/lib/llama-models/small/2025-11-17-01/model.gguf"


@dataclass(frozen=True, slots=True)
class Disk:
    """A root, and a folder beside it whose files are the sources."""

    root: Path
    sources: Path

    @property
    def store(self) -> WeightsFolder:
        return WeightsFolder(self.root, (LocalFiles(),))

    @property
    def folder(self) -> Path:
        return (self.root / DESTINATION).parent

    def source(self, name: str, content: bytes = CONTENT) -> str:
        """Write a source file."""
        (self.sources / name).write_bytes(content)
        return f"file://{self.sources}/{name}"

    def left(self) -> list[str]:
        """List everything below the root that is not a folder."""
        return sorted(path.name for path in self.root.rglob("*") if not path.is_dir())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "root").mkdir()
    (tmp_path / "sources").mkdir()
    return Disk(tmp_path / "root", tmp_path / "sources")


def a_step(*sources: str, content: bytes = CONTENT, destination: str = DESTINATION) -> PlaceWeights:
    """Build a step that brings in these sources, which together have this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = StoredFile(destination, sources, len(content), sha256)
    return PlaceWeights(key="small@2025-11-17-01", revision=None, files=(file,), sha256=sha256)


SPLIT = DESTINATION.replace("model.gguf", "model-00001-of-00003.gguf")


def a_split_step(disk: Disk) -> PlaceWeights:
    """Build a step that brings in a split GGUF of three parts."""
    contents = [CONTENT[start : start + 500_000] for start in (0, 500_000, 1_000_000)]
    files = tuple(
        StoredFile(path, (disk.source(f"part {number}", content),), len(content), hashlib.sha256(content).hexdigest())
        for number, (path, content) in enumerate(zip(stored_names(SPLIT), contents, strict=True))
    )
    return PlaceWeights("small@2025-11-17-01", None, files, set_sha256(file.sha256 for file in files))


def place(disk: Disk, step: PlaceWeights) -> list[tuple[int, int]]:
    """Place weights, and give the progress that was told."""
    told: list[tuple[int, int]] = []
    disk.store.place(step, lambda done, total: told.append((done, total)))
    return told


def refused(disk: Disk, step: PlaceWeights) -> str:
    """Place what must not come in, and give the code of the one problem."""
    with pytest.raises(ObstacleError) as caught:
        place(disk, step)
    (problem,) = caught.value.problems
    return problem.code


def test_weights_come_in_verified(disk: Disk) -> None:
    step = a_step(disk.source("m.gguf"))

    told = place(disk, step)

    assert (disk.root / DESTINATION).read_bytes() == CONTENT
    assert disk.store.verified() == {DESTINATION: step.sha256}
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert disk.left() == ["metadata.json", "model.gguf", "sha256sum"]
    subprocess.run(["sha256sum", "--check", "--status", "sha256sum"], cwd=disk.folder, check=True)


def test_parts_are_joined_in_order(disk: Disk) -> None:
    sources = [disk.source(name, CONTENT[start : start + 500_000]) for name, start in (("b", 0), ("a", 500_000))]
    sources.append(disk.source("c", CONTENT[1_000_000:]))

    place(disk, a_step(*sources))

    assert (disk.root / DESTINATION).read_bytes() == CONTENT


@pytest.mark.parametrize(("mode", "links"), [(0o644, 2), (0o600, 1), (0o664, 1), (0o646, 1)])
def test_a_file_is_shared_when_only_we_can_change_it_and_all_can_read_it(disk: Disk, mode: int, links: int) -> None:
    url = disk.source("m.gguf")
    (disk.sources / "m.gguf").chmod(mode)

    place(disk, a_step(url))

    assert (disk.root / DESTINATION).stat().st_nlink == links
    assert stat.S_IMODE((disk.root / DESTINATION).stat().st_mode) == 0o644


def test_a_unit_s_user_can_read_whatever_the_umask(disk: Disk) -> None:
    before = os.umask(0o077)
    try:
        place(disk, a_step(disk.source("m.gguf")))
    finally:
        os.umask(before)

    for path in (disk.root / "var").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("mode", [0o644, 0o600], ids=["shared", "copied"])
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", b""], ids=["size", "bytes", "empty"])
def test_other_bytes_than_the_locked_ones_leave_nothing(disk: Disk, mode: int, content: bytes) -> None:
    url = disk.source("m.gguf", content)
    (disk.sources / "m.gguf").chmod(mode)

    assert refused(disk, a_step(url)) == "KI316"
    assert disk.left() == []
    assert not disk.folder.exists()


def test_a_missing_source_leaves_nothing(disk: Disk) -> None:
    step = a_step(f"file://{disk.sources}/absent")

    assert not disk.store.is_reachable(step)
    assert refused(disk, step) == "KI310"
    assert disk.left() == []


def test_a_source_that_nothing_reads_is_refused(disk: Disk) -> None:
    step = a_step("ftp://example.org/m.gguf")

    assert not disk.store.is_reachable(step)
    assert refused(disk, step) == "KI317"


def test_every_part_must_be_reachable(disk: Disk) -> None:
    here = disk.source("a")

    assert disk.store.is_reachable(a_step(here, here))
    assert not disk.store.is_reachable(a_step(here, f"file://{disk.sources}/absent"))


def test_what_differs_does_not_harm_what_is_there(disk: Disk) -> None:
    step = a_step(disk.source("m.gguf"))
    place(disk, step)

    other = replace(step.files[0], sha256="0" * 64)
    assert refused(disk, replace(step, files=(other,), sha256=other.sha256)) == "KI316"
    assert disk.store.verified() == {DESTINATION: step.sha256}


def test_weights_can_be_replaced(disk: Disk) -> None:
    place(disk, a_step(disk.source("old"), content=CONTENT))
    newer = a_step(disk.source("new", b"newer"), content=b"newer")

    place(disk, newer)

    assert disk.store.verified() == {DESTINATION: newer.sha256}
    assert disk.left() == ["metadata.json", "model.gguf", "sha256sum"]


def test_what_a_killed_run_left_is_swept(disk: Disk) -> None:
    other = disk.root / "var/lib/llama-models/other/1"
    for folder in (other, disk.folder):
        folder.mkdir(parents=True)
        (folder / f".model.gguf{PARTIAL}").write_bytes(CONTENT)
    assert disk.store.verified() == {}

    place(disk, a_step(disk.source("m.gguf")))

    assert disk.left() == ["metadata.json", "model.gguf", "sha256sum"]


@pytest.mark.parametrize("damage", ["", "{}", "not json", '{"key": 1}'])
def test_weights_without_sound_metadata_do_not_count(disk: Disk, damage: str) -> None:
    place(disk, a_step(disk.source("m.gguf")))
    (disk.folder / "metadata.json").write_text(damage)

    assert disk.store.verified() == {}


def test_weights_of_another_size_do_not_count(disk: Disk) -> None:
    place(disk, a_step(disk.source("m.gguf")))
    (disk.root / DESTINATION).unlink()
    assert disk.store.verified() == {}

    (disk.root / DESTINATION).write_bytes(b"cut short")
    assert disk.store.verified() == {}


def test_weights_are_removed_with_their_folders_and_twice_is_once(disk: Disk) -> None:
    place(disk, a_step(disk.source("m.gguf")))
    sibling = DESTINATION.replace("-01/", "-02/")
    place(disk, a_step(disk.source("m.gguf"), destination=sibling))

    disk.store.remove(DESTINATION)
    disk.store.remove(DESTINATION)

    assert list(disk.store.verified()) == [sibling]
    assert not disk.folder.exists()
    disk.store.remove(sibling)
    assert list((disk.root / "var/lib/llama-models").iterdir()) == []


def test_a_store_that_is_not_there_is_empty(disk: Disk) -> None:
    assert disk.store.verified() == {}
    disk.store.remove(DESTINATION)


def test_the_parts_of_a_split_gguf_stay_apart(disk: Disk) -> None:
    step = a_split_step(disk)

    told = place(disk, step)

    assert b"".join((disk.root / path).read_bytes() for path in stored_names(SPLIT)) == CONTENT
    assert disk.store.verified() == {SPLIT: step.sha256}
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    checksums = "model-00001-of-00003.sha256sum"
    subprocess.run(["sha256sum", "--check", "--status", checksums], cwd=disk.folder, check=True)
    disk.store.remove(SPLIT)
    assert disk.left() == []
    assert not disk.folder.exists()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_split_gguf_comes_in_whole_or_not_at_all(disk: Disk, number: int) -> None:
    step = a_split_step(disk)
    disk.source(f"part {number}", b"other")

    assert refused(disk, step) == "KI316"
    assert disk.left() == []


def test_a_split_gguf_that_lost_a_part_does_not_count(disk: Disk) -> None:
    place(disk, a_split_step(disk))
    (disk.root / stored_names(SPLIT)[1]).unlink()

    assert disk.store.verified() == {}


def test_several_weights_of_one_version_do_not_touch_each_other(disk: Disk) -> None:
    projector = a_step(disk.source("p", b"projector"), content=b"projector")
    destination = DESTINATION.replace("model.gguf", "mmproj.gguf")
    projector = replace(projector, files=(replace(projector.files[0], path=destination),))
    steps = [a_step(disk.source("m")), a_split_step(disk), projector]
    for step in steps:
        place(disk, step)

    assert disk.store.verified() == {step.destination: step.sha256 for step in steps}
    assert "mmproj.metadata.json" in disk.left()
    for count, step in enumerate(steps, start=1):
        disk.store.remove(step.destination)
        assert disk.store.verified() == {step.destination: step.sha256 for step in steps[count:]}
    assert disk.left() == []


def test_what_earlier_versions_stored_counts(disk: Disk) -> None:
    step = a_step(disk.source("m.gguf"))
    place(disk, step)
    metadata = disk.folder / "metadata.json"
    written = json.loads(metadata.read_text())
    del written["sizes_bytes"]
    metadata.write_text(json.dumps(written))

    assert disk.store.verified() == {DESTINATION: step.sha256}


def test_a_full_disk_leaves_nothing(disk: Disk) -> None:
    need(can_mount(disk.root), "the right to mount a small file system")
    step = a_step(disk.source("m.gguf"))
    with a_small_disk(disk.root, len(CONTENT) // 2):
        with pytest.raises(ObstacleError) as caught:
            place(disk, step)
        assert disk.left() == []
        assert not disk.folder.exists()

    (problem,) = caught.value.problems
    assert problem.code == "KI317"
    assert os.strerror(errno.ENOSPC) in problem.detail


def test_a_run_that_is_stopped_leaves_nothing(disk: Disk) -> None:
    url = disk.source("m.gguf")
    (disk.sources / "m.gguf").chmod(0o600)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        disk.store.place(a_step(url), stop)

    assert disk.left() == []


def test_sources_are_asked_by_url(disk: Disk) -> None:
    held = HeldFiles({"held://m.gguf": HeldFile(CONTENT)}, disk.sources)
    store = WeightsFolder(disk.root, (LocalFiles(), held))
    told: list[int] = []

    store.place(a_step("held://m.gguf"), lambda done, _total: told.append(done))

    assert list(store.verified()) == [DESTINATION]
    assert told[-1] == len(CONTENT)


def test_what_belongs_to_no_whole_version_is_listed_and_can_be_removed(disk: Disk) -> None:
    place(disk, a_step(disk.source("m.gguf")))
    other = disk.folder.with_name("other")
    other.mkdir()
    (other / "model.gguf").write_bytes(bytes(10))
    (disk.folder / ".model.gguf.partial").write_bytes(bytes(3))

    left = disk.store.left_over()

    assert {Path(path).relative_to("var/lib/llama-models/small").as_posix(): size for path, size in left.items()} == {
        "2025-11-17-01/.model.gguf.partial": 3,
        "other/model.gguf": 10,
    }
    for path in (*left, *left):
        disk.store.remove_left_over(path)
    assert not disk.store.left_over()
    assert not other.exists()
    assert disk.store.verified()
