"""What compiles keep in a folder: found again whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kloros_infra.adapters.compile_cache import CompileCacheFolder, cache_folder
from kloros_infra.adapters.own_code import ROOMS, code_digest
from kloros_infra.adapters.templates import PACKAGE
from kloros_infra.compiler.compile_cache import CompileCache
from tests.fakes.compile_cache import MemoryCache
from tests.needed import need

PROJECT = Path("/srv/models.yaml")
DATA = bytes(range(256)) * 40

# Write one of two results to a slot over and over, and read it: what comes back is always one of the two, whole.
WRITE_AND_READ = """
import sys
from pathlib import Path
from kloros_infra.adapters.compile_cache import CompileCacheFolder
cache = CompileCacheFolder(Path(sys.argv[1]), Path("/srv/models.yaml"))
own = sys.argv[2]
for _ in range(200):
    cache.write("slot", own, own.encode() * 50_000)
    for digest in ("a", "b"):
        assert cache.read("slot", digest) in (None, digest.encode() * 50_000)
"""


@pytest.fixture(params=["folder", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> CompileCache:
    """Give an empty cache: the real one, and the one that stands for it in other tests."""
    return CompileCacheFolder(tmp_path / "cache", PROJECT) if request.param == "folder" else MemoryCache()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder that holds one result, in one file."""
    CompileCacheFolder(tmp_path, PROJECT).write("slot", "digest", DATA)
    return tmp_path


def found(folder: Path) -> bytes | None:
    """Look the result up."""
    return CompileCacheFolder(folder, PROJECT).read("slot", "digest")


def only_file(folder: Path) -> Path:
    """Give the file of the result."""
    (file,) = folder.iterdir()
    return file


def test_what_is_kept_is_found_under_its_digest_alone(cache: CompileCache) -> None:
    assert cache.read("slot", "digest") is None

    cache.write("slot", "digest", DATA)

    assert cache.read("slot", "digest") == DATA
    assert cache.read("slot", "digest2") is None
    assert cache.read("other", "digest") is None


def test_a_slot_holds_what_was_kept_last(cache: CompileCache) -> None:
    cache.write("slot", "digest", DATA)
    cache.write("slot", "other", b"")
    cache.write("another slot", "digest", b"x")

    assert cache.read("slot", "digest") is None
    assert cache.read("slot", "other") == b""
    assert cache.read("another slot", "digest") == b"x"


def test_projects_have_slots_of_their_own(folder: Path) -> None:
    other = CompileCacheFolder(folder, Path("/srv/other/models.yaml"))
    assert other.read("slot", "digest") is None

    other.write("slot", "digest", b"x")

    assert found(folder) == DATA


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[:-1],
    "cut off in its first line": lambda data: data[:20],
    "longer": lambda data: data + b"x",
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "another checksum": lambda data: data.replace(data.split(b"\n")[1], b"0" * 64, 1),
    "another digest": lambda data: data.replace(b" digest\n", b" other\n", 1),
    "another format": lambda data: data.replace(b"compile 1 ", b"compile 0 ", 1),
    "something else": lambda _: b"\x7fELF" * 100,
    "lines without end": lambda _: b"x" * 100_000,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_file_that_is_not_whole_does_not_count_and_is_replaced(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    file = only_file(folder)
    file.write_bytes(spoil(file.read_bytes()))
    assert found(folder) is None

    CompileCacheFolder(folder, PROJECT).write("slot", "digest", DATA)

    assert found(folder) == DATA
    assert only_file(folder) == file


def test_what_other_code_kept_does_not_count(folder: Path) -> None:
    file = only_file(folder)
    file.write_bytes(file.read_bytes().replace(code_digest().encode(), b"0" * 64, 1))

    assert found(folder) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_does_not_count(folder: Path, mode: int) -> None:
    assert only_file(folder).stat().st_mode & 0o777 == 0o600
    only_file(folder).chmod(mode)

    assert found(folder) is None


def test_a_file_of_another_user_does_not_count(folder: Path) -> None:
    need(os.geteuid() == 0, "the right to give a file away")
    os.chown(only_file(folder), 65534, 65534)

    assert found(folder) is None


def test_what_is_no_plain_file_does_not_count_and_is_replaced(folder: Path) -> None:
    file = only_file(folder)
    kept = file.rename(folder.with_name("elsewhere"))
    for is_link in (True, False):
        if is_link:
            file.symlink_to(kept)
        else:
            os.mkfifo(file)
        assert found(folder) is None
        CompileCacheFolder(folder, PROJECT).write("slot", "digest", DATA)
        assert found(folder) == DATA
        file.unlink()
    file.mkdir()

    CompileCacheFolder(folder, PROJECT).write("slot", "digest", DATA)

    assert found(folder) is None
    assert [file] == list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "cache", Path("/proc/cache")):
        cache = CompileCacheFolder(place, PROJECT)

        cache.write("slot", "digest", DATA)

        assert cache.read("slot", "digest") is None


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    CompileCacheFolder(tmp_path / "a" / "cache", PROJECT).write("slot", "digest", DATA)

    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700


def test_what_was_written_first_makes_room(tmp_path: Path) -> None:
    cache = CompileCacheFolder(tmp_path, PROJECT, most_bytes=3 * len(DATA))
    for minute, slot in enumerate("abcd"):
        cache.write(slot, "digest", DATA[:-500])
        for file in tmp_path.iterdir():
            if file.stat().st_mtime > 10**9:
                os.utime(file, (minute, minute))

    assert [cache.read(slot, "digest") is not None for slot in "abcd"] == [False, True, True, True]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3 * len(DATA)


def test_what_a_killed_run_left_makes_room_first(tmp_path: Path) -> None:
    cache = CompileCacheFolder(tmp_path, PROJECT, most_bytes=2 * len(DATA))
    cache.write("a", "digest", DATA)
    (tmp_path / ".left").write_bytes(DATA)
    os.utime(tmp_path / ".left", (0, 0))

    cache.write("b", "digest", DATA[:-500])

    assert not (tmp_path / ".left").exists()


def test_what_has_no_room_at_all_is_not_kept(folder: Path) -> None:
    CompileCacheFolder(folder, PROJECT, most_bytes=len(DATA)).write("other", "digest", DATA + b"x")

    assert found(folder) == DATA
    assert only_file(folder)


def test_two_compiles_at_once_see_each_others_results_whole(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path)]
    both = [subprocess.Popen([*argv, own], stderr=subprocess.PIPE, text=True) for own in ("a", "b")]

    assert [one.communicate(timeout=60)[1] for one in both] == ["", ""]

    assert [one.returncode for one in both] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("environ", "users", "roots"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache", "/var/cache"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/srv/cache"}, "/srv/cache", "/srv/cache"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}, "/home/me/.cache", "/var/cache"),
        ({}, None, "/var/cache"),
    ],
)
def test_the_folder_is_the_users_own(environ: dict[str, str], users: str | None, roots: str) -> None:
    inside = "kloros-infra/compile"
    assert cache_folder(environ, is_root=False) == (None if users is None else Path(users) / inside)
    assert cache_folder(environ, is_root=True) == Path(roots) / inside


def a_package(folder: Path) -> Path:
    """Write a package in the shape of ours."""
    for room in ("", *ROOMS, "router"):
        (folder / room).mkdir(exist_ok=True)
        (folder / room / "module.py").write_text("pass\n")
    return folder


def test_code_is_told_apart_by_what_compiles(tmp_path: Path) -> None:
    package = a_package(tmp_path)
    seen = {code_digest(package)}
    for room in ("", *ROOMS):
        (package / room / "module.py").write_text("pass  # other\n")
        seen.add(code_digest(package))
    (package / "ir" / "module.py").rename(package / "ir" / "renamed.py")
    seen.add(code_digest(package))
    (package / "ir" / "new.py").write_text("")
    seen.add(code_digest(package))
    assert len(seen) == 4 + len(ROOMS)

    (package / "router" / "module.py").write_text("pass  # other\n")

    assert code_digest(package) in seen
    assert code_digest() == code_digest(PACKAGE)
