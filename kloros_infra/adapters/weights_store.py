"""The folder of verified weights: `<model id>/<version>/{model.gguf,metadata.json,sha256sum}` below a root.

Other weights in the same folder, the parts of a split GGUF or a projector, have metadata and checksums named after
their first file: `mmproj.gguf` and `mmproj.metadata.json`. Weights come in under another name in the same folder, are
hashed on the way, synced, and renamed when size and sha256 are those of the lock. Metadata is written last, and weights
without it count as absent: after a crash a version is there as a whole or not at all. One process writes at a time
(`apply_lock`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.synced_files import make_folders, sync_folder
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Sha256
from kloros_infra.ir.place_weights import PlaceWeights, StoredFile
from kloros_infra.ir.split_gguf import stored_names

MODEL = "model.gguf"
METADATA = "metadata.json"
SHA256SUM = "sha256sum"
PARTIAL = ".partial"
# A unit's own user (DynamicUser=) reads them.
_FILE_MODE = 0o644
_PIECE_BYTES = 2**20

Progress = Callable[[int, int], None]


class StoredSource(Protocol):
    """What the store needs of a source of weights."""

    def handles(self, url: str) -> bool: ...
    def locate(self, url: str, revision: str | None) -> Path: ...
    def is_reachable(self, url: str, revision: str | None) -> bool: ...


class MetadataSpec(BaseModel):
    """Metadata as written; `sizes_bytes` has one entry per file, and none in what earlier versions wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    sources: tuple[str, ...]
    revision: str | None
    size_bytes: NonNegativeInt
    sizes_bytes: tuple[NonNegativeInt, ...] = ()
    sha256: Sha256


class WeightsFolder:
    """Keeps weights below `root`, in the folder that the layout names."""

    def __init__(self, root: Path, sources: Sequence[StoredSource], layout: Layout | None = None) -> None:
        self._root = root
        self._sources = sources
        self._folder = root / (layout or Layout()).weights

    def verified(self) -> Mapping[str, str]:
        """Map the path of each whole version's first file, relative to the root, to its sha256."""
        found: dict[str, str] = {}
        for file in sorted(self._folder.glob(f"*/*/*{METADATA}")):
            metadata = _read_metadata(file)
            weights = file.with_name(_weights_name(file.name))
            if metadata is not None and _sizes_bytes(weights) == (metadata.sizes_bytes or (metadata.size_bytes,)):
                found[weights.relative_to(self._root).as_posix()] = metadata.sha256
        return found

    def left_over(self) -> Mapping[str, int]:
        """Map files that belong to no whole version, by path relative to the root, to the bytes that they hold.

        They are what a fetch or a removal left that was killed, or a version whose metadata is lost.
        """
        whole = {self._root / path for first in self.verified() for path in _files_of(Path(first))}
        there = (file for file in sorted(self._folder.glob("*/*/*")) if file not in whole and not _is_folder(file))
        return {file.relative_to(self._root).as_posix(): file.lstat().st_size for file in there}

    def remove_left_over(self, path: str) -> None:
        """Remove one such file, and the folders that become empty; nothing when it is gone."""
        file = self._root / path
        with suppress(FileNotFoundError, NotADirectoryError):
            file.unlink()
        self._prune(file.parent)

    def is_reachable(self, step: PlaceWeights) -> bool:
        """Say whether every source of a step can be read."""
        return all(
            any(source.handles(url) and source.is_reachable(url, step.revision) for source in self._sources)
            for url in step.sources
        )

    def place(self, step: PlaceWeights, on_progress: Progress) -> None:
        """Bring weights in; raise ObstacleError, leaving nothing, when a source is missing or differs from the lock."""
        first = self._root / step.destination
        self._sweep()
        with _explained(step), self._emptied_on_failure(step):
            origins = [[self._locate(url, step) for url in file.sources] for file in step.files]
            make_folders(first.parent)
            done = 0
            for file, sources in zip(step.files, origins, strict=True):
                target = _Target(step.key, file, step.size_bytes, done)
                _bring(sources, _partial(self._root / file.path), target, on_progress)
                done += file.size_bytes
            # Until the new metadata is there, neither the old weights nor the new ones count.
            _beside(first, METADATA).unlink(missing_ok=True)
            for file in step.files:
                _partial(self._root / file.path).replace(self._root / file.path)
            _write(_beside(first, SHA256SUM), _checksums(step))
            _write(_beside(first, METADATA), _metadata(step))

    def remove(self, destination: str) -> None:
        """Take weights out, and the folders that become empty; nothing when they are gone."""
        first = self._root / destination
        # Metadata first: what is half removed does not count as there, and `left_over` finds the rest.
        for file in _files_of(first):
            with suppress(FileNotFoundError, NotADirectoryError):
                file.unlink()
        self._prune(first.parent)

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
    def _emptied_on_failure(self, step: PlaceWeights) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for file in step.files:
                with suppress(OSError):
                    _partial(self._root / file.path).unlink(missing_ok=True)
            self._prune((self._root / step.destination).parent)
            raise

    def _prune(self, folder: Path) -> None:
        """Remove a version's folder and its model's, as far as they are empty."""
        for one in (folder, folder.parent):
            with suppress(OSError):
                one.rmdir()


@dataclass(frozen=True, slots=True)
class _Target:
    """One file that comes in: what it must be, and how much of the step came before it."""

    key: str
    file: StoredFile
    total_bytes: int
    before_bytes: int

    def progress(self, on_progress: Progress) -> Callable[[int], None]:
        """Tell how far the whole step is, given how far this file is."""
        return lambda done: on_progress(self.before_bytes + done, self.total_bytes)


def _bring(sources: Sequence[Path], partial: Path, target: _Target, on_progress: Progress) -> None:
    """Make `partial` a link to a single file that cannot be changed by others, or a copy of all, joined."""
    on_bytes = target.progress(on_progress)
    if len(sources) == 1 and _can_be_shared(sources[0], partial.parent):
        _check(target, _digest(sources, None, on_bytes))
        # Not every file system has hard links, nor lets us make this one (proc_sys_fs(5), protected_hardlinks).
        with suppress(OSError):
            os.link(sources[0].resolve(), partial)
            return
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        _check(target, _digest(sources, stream.write, on_bytes))
        stream.flush()
        os.fchmod(descriptor, _FILE_MODE)
        os.fsync(descriptor)


def _can_be_shared(file: Path, folder: Path) -> bool:
    """Say whether a hard link will do: on the same disk, ours alone to write, and readable by a unit's user."""
    facts = file.stat()
    is_ours = facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and bool(facts.st_mode & stat.S_IROTH) and facts.st_dev == folder.stat().st_dev


def _digest(
    files: Sequence[Path], write: Callable[[bytes], object] | None, on_bytes: Callable[[int], None]
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
                on_bytes(done)
    return done, digest.hexdigest()


def _check(target: _Target, found: tuple[int, str]) -> None:
    key, file = target.key, target.file
    size_bytes, sha256 = found
    if size_bytes != file.size_bytes:
        expected, has = f"{file.size_bytes} bytes", f"{size_bytes} bytes"
        raise ObstacleError([weights_problems.differs(key, "size", expected=expected, found=has)])
    if sha256 != file.sha256:
        raise ObstacleError([weights_problems.differs(key, "sha256", expected=file.sha256, found=sha256)])


def _checksums(step: PlaceWeights) -> str:
    """Write what sha256sum(1) checks."""
    return "".join(f"{file.sha256}  {Path(file.path).name}\n" for file in step.files)


def _metadata(step: PlaceWeights) -> str:
    spec = MetadataSpec(
        key=step.key,
        sources=step.sources,
        revision=step.revision,
        size_bytes=step.size_bytes,
        sizes_bytes=tuple(file.size_bytes for file in step.files),
        sha256=step.sha256,
    )
    return spec.model_dump_json(indent=2) + "\n"


def _read_metadata(file: Path) -> MetadataSpec | None:
    try:
        return MetadataSpec.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _sizes_bytes(first: Path) -> tuple[int, ...] | None:
    """Say how large each file of a version is; None where one is missing."""
    files = [first.with_name(name) for name in stored_names(first.name)]
    return tuple(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None


def _files_of(first: Path) -> tuple[Path, ...]:
    """Name everything that belongs to a version's first file."""
    return (
        _beside(first, METADATA),
        *(first.with_name(name) for name in stored_names(first.name)),
        _beside(first, SHA256SUM),
    )


def _is_folder(file: Path) -> bool:
    return file.is_dir() and not file.is_symlink()


def _beside(first: Path, what: str) -> Path:
    """Name the metadata or checksums of the weights whose first file this is."""
    return first.with_name(what if first.name == MODEL else f"{first.stem}.{what}")


def _weights_name(metadata_name: str) -> str:
    """Name the first file that metadata speaks of."""
    return MODEL if metadata_name == METADATA else f"{metadata_name.removesuffix(f'.{METADATA}')}.gguf"


def _partial(file: Path) -> Path:
    """Name a file while it comes in."""
    return file.with_name(f".{file.name}{PARTIAL}")


def _write(file: Path, text: str) -> None:
    """Write a small file, whole or not at all, and make it durable with everything renamed before it."""
    partial = _partial(file)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(descriptor, _FILE_MODE)
        os.fsync(descriptor)
    partial.replace(file)
    sync_folder(file.parent)


@contextmanager
def _explained(step: PlaceWeights) -> Iterator[None]:
    try:
        yield
    except UnreachableError as error:
        raise ObstacleError(error.problems) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ObstacleError([weights_problems.cannot_be_stored(step.key, reason)]) from error
