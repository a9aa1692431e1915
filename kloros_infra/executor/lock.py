"""Lock: Config + sources → Lock, the one station that asks the outside what compile needs to know.

What is on the hub stays at the commit that the lock pins, without being asked for, until it is upgraded; what is
installed or lies on this machine has no other version than the one that is there, and is read again where its bytes
may differ. What cannot be reached keeps its entry, or is derived from a published architecture; both are warnings,
except where the newest was asked for. Everything else that fails is reported, all at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kloros_infra.compiler.locked import Lockable, lockables, other_bytes
from kloros_infra.diagnostics import Diagnostic, Problems, in_order
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.executor import lock_problems
from kloros_infra.executor.lock_files import Part, checksums, readable
from kloros_infra.executor.lock_ports import HeaderReader, LockProgress, LockRecord, WeightsSource
from kloros_infra.executor.side_by_side import side_by_side
from kloros_infra.ir.config import Config
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedWeights, Origin, Pin
from kloros_infra.ir.split_gguf import split_set
from kloros_infra.placement.published import derive_header

MOST_AT_ONCE = 4
"""Entries read at a time: the hub answers each request slowly, and refuses too many."""

Found = tuple[LockedWeights | None, Problems]


@dataclass(frozen=True, slots=True)
class LockWorld:
    """The outside, as locking sees it."""

    sources: Sequence[WeightsSource]
    read_header: HeaderReader
    on_progress: LockProgress
    on_locked: LockRecord


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What to take over: `existing` entries, and `pins` of entries that have to be read again where they are.

    With `is_refresh` everything is read again, at what it is pinned to; models in `upgraded` move to the newest.
    """

    existing: Mapping[str, LockedWeights] = field(default_factory=dict)
    pins: Mapping[str, Pin] = field(default_factory=dict)
    upgraded: frozenset[str] = frozenset()
    is_refresh: bool = False


def lock_models(config: Config, request: LockRequest, world: LockWorld) -> tuple[Lock, Problems]:
    """Pin the weights and the projector of every version of every model, several at a time.

    Entries that failed are missing from the result.
    """
    weights: dict[str, LockedWeights] = {}
    problems: list[Diagnostic] = []
    # What is wrong with this machine, and not with an entry, is the same for each of them.
    told: set[Diagnostic] = set()
    stop = threading.Event()
    tasks = [_Locking(one, request, world, stop).run for one in lockables(config)]
    try:
        for one, entry, found in side_by_side(tasks, most=MOST_AT_ONCE):
            problems.extend(replace(problem, address=one.name) for problem in found if problem not in told)
            told.update(found)
            if entry is not None:
                weights[one.key] = entry
                if entry is not request.existing.get(one.key):
                    world.on_locked(entry)
    finally:
        stop.set()
    return Lock(dict(sorted(weights.items()))), in_order(problems)


class _Locking:
    """One entry while it is locked, in a thread of its own."""

    def __init__(self, wanted: Lockable, request: LockRequest, world: LockWorld, stop: threading.Event) -> None:
        self._wanted = wanted
        self._world = world
        self._stop = stop
        self._is_refresh = request.is_refresh or wanted.key in request.pins
        before = request.existing.get(wanted.key)
        self._before = before if before is not None and before.source == wanted.source else None
        pin = request.pins.get(wanted.key) if before is None else Pin(before.source, before.origin, before.revision)
        self._is_upgrade = wanted.model.id in request.upgraded
        stays = pin is not None and pin.source == wanted.source and not self._is_upgrade
        self._commit = pin.revision if pin is not None and stays and pin.origin is Origin.HUB else None

    def run(self) -> tuple[Lockable, LockedWeights | None, Problems]:
        """Give the entry, or what is wrong with it."""
        return self._wanted, *self._found()

    def _found(self) -> Found:
        try:
            entry = self._entry()
        except ObstacleError as error:
            return None, error.problems
        except UnreachableError as error:
            return self._without_reading(error.problems)
        return self._checked(entry)

    def _entry(self) -> LockedWeights:
        if self._before is not None and self._commit is not None and not self._is_refresh:
            return self._before
        split = split_set(self._wanted.source)
        parts = self._look(split or self._wanted.source, is_split=split is not None)
        if self._before is not None and not self._is_refresh and _is_unchanged(self._before, parts):
            return self._before
        return self._read(parts, is_split=split is not None and len(split) > 1)

    def _look(self, urls: tuple[str, ...], *, is_split: bool) -> tuple[Part, ...]:
        """Ask for each file's facts; all of a split GGUF at the commit of its first part, should the branch move."""
        commit = self._commit
        parts: list[Part] = []
        for url in urls:
            source = self._source(url)
            parts.append(Part(url, source, source.look(url, commit), self._stop))
            if is_split:
                commit = parts[0].facts.revision
        return tuple(parts)

    def _source(self, url: str) -> WeightsSource:
        for source in self._world.sources:
            if source.handles(url):
                return source
        raise ObstacleError([lock_problems.no_source(url)])

    def _read(self, parts: tuple[Part, ...], *, is_split: bool) -> LockedWeights:
        key, revision = self._wanted.key, _revision(parts)
        if _is_from_several_commits(parts):
            raise ObstacleError([lock_problems.several_commits(key, revision or "")])
        total = sum(part.size_bytes for part in parts)
        self._world.on_progress(key, 0, total)
        # The header first: what is no GGUF need not be read to its end.
        header = self._world.read_header(readable(key, parts, is_split=is_split), name=key)
        if header.is_projector is not self._wanted.is_projector:
            raise ObstacleError([lock_problems.wrong_role(key, header.architecture, is_projector=header.is_projector)])
        sha256, files = checksums(parts, lambda done: self._world.on_progress(key, done, total), is_split=is_split)
        return LockedWeights(
            key=key,
            origin=parts[0].facts.origin,
            source=self._wanted.source,
            revision=revision,
            files=files,
            size_bytes=sum(file.size_bytes for file in files),
            sha256=sha256,
            header=header,
        )

    def _checked(self, entry: LockedWeights, *warnings: Diagnostic) -> Found:
        expected = None if self._wanted.is_projector else self._wanted.version.sha256
        if expected is not None and entry.sha256 != expected:
            return None, (*warnings, other_bytes(entry.key, expected, str(entry.sha256)))
        return entry, warnings

    def _without_reading(self, causes: Problems) -> Found:
        wanted, version = self._wanted, self._wanted.version
        if self._is_upgrade:
            # Whoever asked for the newest does not get what was there before as if it were that.
            return None, causes
        if self._before is not None and not self._before.is_derived:
            return self._checked(self._before, lock_problems.kept(wanted.key, causes))
        if wanted.is_projector or (version.architecture is None and version.quantization is None):
            return None, causes
        header = derive_header(version.architecture or "", version.quantization or "")
        if header is None:
            return None, (lock_problems.cannot_be_derived(wanted.key, version),)
        return _derived(wanted, header), (lock_problems.derived(wanted.key, causes),)


def _is_unchanged(before: LockedWeights, parts: tuple[Part, ...]) -> bool:
    """Say whether the entry pins these very files; without a revision only reading them would tell."""
    was = [(file.source, file.size_bytes) for file in before.files]
    revision = _revision(parts)
    return revision is not None and before.revision == revision and was == [(p.url, p.size_bytes) for p in parts]


def _revision(parts: tuple[Part, ...]) -> str | None:
    """Join the parts' revisions, each named once; None where one has none."""
    revisions = [part.facts.revision for part in parts]
    known = [revision for revision in revisions if revision is not None]
    return ", ".join(dict.fromkeys(known)) if len(known) == len(revisions) else None


def _is_from_several_commits(parts: tuple[Part, ...]) -> bool:
    """Say whether one revision would not do to fetch all parts again."""
    revisions = {part.facts.revision for part in parts}
    return len(revisions) > 1 and any(part.facts.origin is Origin.HUB for part in parts)


def _derived(wanted: Lockable, header: GgufHeader) -> LockedWeights:
    return LockedWeights(
        key=wanted.key,
        origin=Origin.DERIVED,
        source=wanted.source,
        revision=None,
        files=(),
        size_bytes=header.weights_bytes,
        sha256=None,
        header=header,
    )
