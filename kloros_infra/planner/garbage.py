"""Weights in the store that nobody needs any more: those that `modelctl gc` removes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.layout import Layout

NOT_NAMED = "models.yaml does not name it"
OLD = "older than those to keep"
LEFT_OVER = "left over, part of no whole version"


@dataclass(frozen=True, slots=True, order=True)
class StoredVersion:
    """A version in the store."""

    model_id: str
    version_id: str


@dataclass(frozen=True, slots=True)
class Garbage:
    """A version that can go, and why; `paths` are those by which the store knows its weights."""

    version: StoredVersion
    paths: tuple[str, ...]
    reason: str


def version_at(path: str, layout: Layout) -> StoredVersion:
    """Say which version a path in the store belongs to."""
    model_id, version_id, _ = path.removeprefix(f"{layout.weights}/").split("/", 2)
    return StoredVersion(model_id, version_id)


def versions_in_use(texts: Iterable[str], layout: Layout) -> frozenset[StoredVersion]:
    """Find the versions that installed files name: they may be running, whatever models.yaml says by now."""
    path = re.compile(rf"/{re.escape(layout.weights)}/([^/\s'\"]+)/([^/\s'\"]+)/")
    return frozenset(StoredVersion(*found) for text in texts for found in path.findall(text))


def find_garbage(
    config: Config, stored: Iterable[str], in_use: frozenset[StoredVersion], *, keep: int, layout: Layout
) -> tuple[Garbage, ...]:
    """List what can go: never a version that is current or in use, nor the newest ones of a model."""
    paths: dict[StoredVersion, list[str]] = {}
    for path in stored:
        paths.setdefault(version_at(path, layout), []).append(path)
    named = {StoredVersion(model.id, one.version_id) for model in config.models for one in model.versions}
    old = old_versions(config, keep)
    reasons = {one: OLD if one in old else NOT_NAMED for one in paths if one in old or one not in named}
    return tuple(
        Garbage(one, tuple(sorted(paths[one])), reason) for one, reason in sorted(reasons.items()) if one not in in_use
    )


def find_left_over(paths: Iterable[str], in_use: frozenset[StoredVersion], *, layout: Layout) -> tuple[Garbage, ...]:
    """Put files that belong to no whole version together by the version in whose folder they lie."""
    found: dict[StoredVersion, list[str]] = {}
    for path in paths:
        found.setdefault(version_at(path, layout), []).append(path)
    return tuple(
        Garbage(one, tuple(sorted(found[one])), LEFT_OVER) for one in sorted(found.keys()) if one not in in_use
    )


def old_versions(config: Config, keep: int) -> tuple[StoredVersion, ...]:
    """List the versions in models.yaml that are neither current nor among the newest of their model."""
    return tuple(
        StoredVersion(model.id, version.version_id)
        for model in config.models
        for version in model.versions
        if version.version_id not in kept_versions(model, keep)
    )


def kept_versions(model: ModelSpec, keep: int) -> frozenset[str]:
    """Give the versions of a model that stay: the last ones of its list, and the one in use."""
    last = [version.version_id for version in model.versions][-keep:]
    return frozenset((*last, *filter(None, (model.version_in_use,))))
