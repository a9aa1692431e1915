"""The folder of verified weights: `<model id>/<version>/{model.gguf,metadata.json,sha256sum}` below a root.

Weights come in under another name in the same folder, are hashed on the way, synced, and renamed when size and sha256
are those of the lock. metadata.json is written last, and weights without it count as absent: after a crash a version is
there as a whole or not at all. One process writes at a time (`apply_lock`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from kloros_infra.adapters import weights_problems
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Sha256
from kloros_infra.ir.plan import PlaceWeights

METADATA = "metadata.json"
SHA256SUM = "sha256sum"
PARTIAL = ".partial"
# A unit's own user (DynamicUser=) reads them.
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_PIECE_BYTES = 2**20

Progress = Callable[[int, int], None]


class StoredSource(Protocol):
    """What the store needs of a source of weights."""

    def handles(self, url: str) -> bool: ...
    def locate(self, url: str, revision: str | None) -> Path: ...
    def is_reachable(self, url: str, revision: str | None) -> bool: ...


class MetadataSpec(BaseModel):
    """metadata.json as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    sources: tuple[str, ...]
    revision: str | None
    size_bytes: NonNegativeInt
    sha256: Sha256


class WeightsFolder:
    """Keeps weights below `root`, in the folder that the layout names."""

    def __init__(self, root: Path, sources: Sequence[StoredSource], layout: Layout | None = None) -> None:
        self._root = root
        self._sources = sources
        self._folder = root / (layout or Layout()).weights

    def verified(self) -> Mapping[str, str]:
        """Map the path of each whole version, relative to the root, to its sha256."""
        found: dict[str, str] = {}
        for file in sorted(self._folder.glob(f"*/*/{METADATA}")):
            metadata = _read_metadata(file)
            weights = file.with_name("model.gguf")
            if metadata is not None and weights.is_file() and weights.stat().st_size == metadata.size_bytes:
                found[weights.relative_to(self._root).as_posix()] = metadata.sha256
        return found

    def is_reachable(self, step: PlaceWeights) -> bool:
        """Say whether every source of a step can be read."""
        return all(
            any(source.handles(url) and source.is_reachable(url, step.revision) for source in self._sources)
            for url in step.sources
        )

    def place(self, step: PlaceWeights, on_progress: Progress) -> None:
        """Bring weights in; raise ObstacleError, leaving nothing, when a source is missing or differs from the lock."""
        weights = self._root / step.destination
        partial = weights.with_name(f".{weights.name}{PARTIAL}")
        self._sweep()
        with _explained(step), self._emptied_on_failure(partial):
            files = [self._locate(url, step) for url in step.sources]
            _make_folders(weights.parent)
            _bring(files, partial, step, on_progress)
            # Until the new metadata is there, neither the old weights nor the new ones count.
            weights.with_name(METADATA).unlink(missing_ok=True)
            partial.replace(weights)
            _write(weights.with_name(SHA256SUM), f"{step.sha256}  {weights.name}\n")
            _write(weights.with_name(METADATA), _metadata(step))

    def remove(self, destination: str) -> None:
        """Take weights out, and the folders that become empty; nothing when they are gone."""
        weights = self._root / destination
        for name in (METADATA, weights.name, SHA256SUM):
            with suppress(FileNotFoundError, NotADirectoryError):
                weights.with_name(name).unlink()
        self._prune(weights.parent)

    def _locate(self, url: str, step: PlaceWeights) -> Path:
        for source in self._sources:
            if source.handles(url):
                return source.locate(url, step.revision)
        raise ObstacleError([weights_problems.cannot_be_stored(step.key, f"nothing here reads {url}")])

    def _sweep(self) -> None:
        """Remove what a killed run left half-written, whichever model it was at."""
        for left in self._folder.glob(f"*/*/.*{PARTIAL}"):
            left.unlink(missing_ok=True)

    @contextmanager
    def _emptied_on_failure(self, partial: Path) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            self._prune(partial.parent)
            raise

    def _prune(self, folder: Path) -> None:
        """Remove a version's folder and its model's, as far as they are empty."""
        for one in (folder, folder.parent):
            with suppress(OSError):
                one.rmdir()


def _bring(files: Sequence[Path], partial: Path, step: PlaceWeights, on_progress: Progress) -> None:
    """Make `partial` a link to a single file that cannot be changed by others, or a copy of all, joined."""
    if len(files) == 1 and _can_be_shared(files[0], partial.parent):
        _check(step, _digest(files, None, step.size_bytes, on_progress))
        # Not every file system has hard links, nor lets us make this one (proc_sys_fs(5), protected_hardlinks).
        with suppress(OSError):
            os.link(files[0].resolve(), partial)
            return
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        _check(step, _digest(files, stream.write, step.size_bytes, on_progress))
        stream.flush()
        os.fchmod(descriptor, _FILE_MODE)
        os.fsync(descriptor)


def _can_be_shared(file: Path, folder: Path) -> bool:
    """Say whether a hard link will do: on the same disk, ours alone to write, and readable by a unit's user."""
    facts = file.stat()
    is_ours = facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and bool(facts.st_mode & stat.S_IROTH) and facts.st_dev == folder.stat().st_dev


def _digest(
    files: Sequence[Path], write: Callable[[bytes], object] | None, total: int, on_progress: Progress
) -> tuple[int, str]:
    """Read files in order, and write them if asked; give their size and sha256 as one."""
    digest = hashlib.sha256()
    done = 0
    for file in files:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
                done += len(piece)
                if write is not None:
                    write(piece)
                on_progress(done, total)
    return done, digest.hexdigest()


def _check(step: PlaceWeights, found: tuple[int, str]) -> None:
    size_bytes, sha256 = found
    if size_bytes != step.size_bytes:
        expected, has = f"{step.size_bytes} bytes", f"{size_bytes} bytes"
        raise ObstacleError([weights_problems.differs(step.key, "size", expected=expected, found=has)])
    if sha256 != step.sha256:
        raise ObstacleError([weights_problems.differs(step.key, "sha256", expected=step.sha256, found=sha256)])


def _metadata(step: PlaceWeights) -> str:
    spec = MetadataSpec(
        key=step.key,
        sources=step.sources,
        revision=step.revision,
        size_bytes=step.size_bytes,
        sha256=step.sha256,
    )
    return spec.model_dump_json(indent=2) + "\n"


def _read_metadata(file: Path) -> MetadataSpec | None:
    try:
        return MetadataSpec.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(file: Path, text: str) -> None:
    """Write a small file, whole or not at all, and make it durable with everything renamed before it."""
    partial = file.with_name(f".{file.name}{PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(descriptor, _FILE_MODE)
        os.fsync(descriptor)
    partial.replace(file)
    _sync_folder(file.parent)


def _make_folders(folder: Path) -> None:
    """Create missing folders with a mode that the umask does not decide."""
    for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        one.mkdir()
        one.chmod(_FOLDER_MODE)
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; see fsync(2) on directories."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(step: PlaceWeights) -> Iterator[None]:
    try:
        yield
    except UnreachableError as error:
        raise ObstacleError(error.problems) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ObstacleError([weights_problems.cannot_be_stored(step.key, reason)]) from error
