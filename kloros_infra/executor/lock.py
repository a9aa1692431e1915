"""Lock: Config + sources → Lock, the one station that asks the outside what compile needs to know.

An entry is read again only where something says that its bytes may differ. What cannot be reached keeps its entry, or
is derived from a published architecture; both are warnings. Everything else that fails is reported, all at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kloros_infra.diagnostics import Diagnostic, Problems, in_order
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.executor import lock_problems
from kloros_infra.executor.lock_ports import HeaderReader, LockProgress, WeightsSource
from kloros_infra.ir.config import Config, VersionSpec
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, Origin, weights_key
from kloros_infra.ir.weights_source import SourceFacts
from kloros_infra.placement.published import derive_header

# Enough for every header seen (the largest, of 262 144 words, has 7 MB), and soon fetched.
HEAD_BYTES = 32 * 2**20

Found = tuple[LockedWeights | None, Problems]


@dataclass(frozen=True, slots=True)
class LockWorld:
    """The outside, as locking sees it."""

    sources: Sequence[WeightsSource]
    read_header: HeaderReader
    on_progress: LockProgress


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of an entry, and who reads it."""

    url: str
    source: WeightsSource
    facts: SourceFacts


def lock_models(
    config: Config, existing: Lock | None, world: LockWorld, *, refresh: bool = False
) -> tuple[Lock, Problems]:
    """Pin every version of every model; with `refresh` nothing of the existing lock is taken over unread.

    Entries that failed are missing from the result: write it only when no problem is an error.
    """
    weights: dict[str, LockedWeights] = {}
    problems: list[Diagnostic] = []
    for model in config.models:
        for version in model.versions:
            key = weights_key(model.id, version.version_id)
            before = existing.weights.get(key) if existing else None
            entry, found = _lock_version(key, version, before, world, is_trusted=not refresh)
            if entry is not None:
                weights[key] = entry
            address = lock_problems.address_of(model.id, version.version_id)
            problems.extend(replace(problem, address=address) for problem in found)
    return Lock(dict(sorted(weights.items()))), in_order(problems)


def _lock_version(
    key: str, version: VersionSpec, before: LockedWeights | None, world: LockWorld, *, is_trusted: bool
) -> Found:
    try:
        parts = tuple(_look(url, world.sources) for url in version.gguf_url)
        if before is not None and is_trusted and _is_unchanged(before, parts):
            return before, ()
        return _read(key, parts, world), ()
    except ObstacleError as error:
        return None, error.problems
    except UnreachableError as error:
        return _without_reading(key, version, before, error.problems)


def _look(url: str, sources: Sequence[WeightsSource]) -> _Part:
    for source in sources:
        if source.handles(url):
            return _Part(url, source, source.look(url))
    raise ObstacleError([lock_problems.no_source(url)])


def _is_unchanged(before: LockedWeights, parts: tuple[_Part, ...]) -> bool:
    """Say whether the entry pins these very files; without a revision only reading them would tell."""
    was = [(file.source, file.size_bytes) for file in before.files]
    revision = _revision(parts)
    return revision is not None and before.revision == revision and was == [(p.url, p.facts.size_bytes) for p in parts]


def _revision(parts: tuple[_Part, ...]) -> str | None:
    """Join the parts' revisions, each named once; None where one has none."""
    revisions = [part.facts.revision for part in parts]
    known = [revision for revision in revisions if revision is not None]
    return ", ".join(dict.fromkeys(known)) if len(known) == len(revisions) else None


def _is_from_several_commits(parts: tuple[_Part, ...]) -> bool:
    """Say whether one revision would not do to fetch all parts again."""
    revisions = {part.facts.revision for part in parts}
    return len(revisions) > 1 and any(part.facts.origin is Origin.HUB for part in parts)


def _read(key: str, parts: tuple[_Part, ...], world: LockWorld) -> LockedWeights:
    if _is_from_several_commits(parts):
        raise ObstacleError([lock_problems.several_commits(key, _revision(parts) or "")])
    size_bytes = sum(part.facts.size_bytes for part in parts)
    # The header first: what is no GGUF need not be read to its end.
    header = world.read_header(_head(parts), size_bytes=size_bytes, name=key)
    sha256, files = _digests(key, parts, world)
    return LockedWeights(
        key=key,
        origin=parts[0].facts.origin,
        source=tuple(part.url for part in parts),
        revision=_revision(parts),
        files=files,
        size_bytes=sum(file.size_bytes for file in files),
        sha256=sha256,
        header=header,
    )


def _head(parts: tuple[_Part, ...]) -> bytes:
    head = b""
    for part in parts:
        if len(head) < HEAD_BYTES:
            head += part.source.head(part.url, part.facts.revision, HEAD_BYTES - len(head))
    return head


def _digests(key: str, parts: tuple[_Part, ...], world: LockWorld) -> tuple[str, tuple[LockedFile, ...]]:
    """Hash the parts and what they make when joined; a single file whose source vouches for it is not read."""
    if len(parts) == 1 and parts[0].facts.sha256 is not None:
        (part,) = parts
        return parts[0].facts.sha256, (LockedFile(part.url, part.facts.size_bytes, parts[0].facts.sha256),)
    total = sum(part.facts.size_bytes for part in parts)
    joined = hashlib.sha256()
    files: list[LockedFile] = []
    done = 0
    for part in parts:
        own = hashlib.sha256()
        began = done
        for piece in part.source.pieces(part.url, part.facts.revision):
            own.update(piece)
            joined.update(piece)
            done += len(piece)
            world.on_progress(key, done, total)
        files.append(LockedFile(part.url, done - began, own.hexdigest()))
    return joined.hexdigest(), tuple(files)


def _without_reading(key: str, version: VersionSpec, before: LockedWeights | None, causes: Problems) -> Found:
    if before is not None and not before.is_derived and before.source == version.gguf_url:
        return before, (lock_problems.kept(key, causes),)
    if version.architecture is None and version.quantization is None:
        return None, causes
    header = derive_header(version.architecture or "", version.quantization or "")
    if header is None:
        return None, (lock_problems.cannot_be_derived(key, version),)
    return _derived(key, version, header), (lock_problems.derived(key, causes),)


def _derived(key: str, version: VersionSpec, header: GgufHeader) -> LockedWeights:
    return LockedWeights(
        key=key,
        origin=Origin.DERIVED,
        source=version.gguf_url,
        revision=None,
        files=(),
        size_bytes=header.weights_bytes,
        sha256=None,
        header=header,
    )
