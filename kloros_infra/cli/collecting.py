"""`modelctl gc`: remove weights that nobody needs from the store, and their entries from models.yaml if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import click

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.lock_folder import LockChange, LockFolder
from kloros_infra.cli.editing import change_models_file, show_changes
from kloros_infra.cli.locking import parse_project, read_existing
from kloros_infra.cli.project import read_project
from kloros_infra.cli.table import echo_table
from kloros_infra.cli.terminal import confirm
from kloros_infra.cli.wiring import Target, generations_of, weights_store
from kloros_infra.compiler.locked import lockables
from kloros_infra.compiler.parse import Parsed
from kloros_infra.editing.edits import Edit, Remove, version_at
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.split_gguf import stored_names
from kloros_infra.planner.figures import size_text
from kloros_infra.planner.garbage import (
    LEFT_OVER,
    Garbage,
    StoredVersion,
    find_garbage,
    find_left_over,
    old_versions,
    versions_in_use,
)


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How many versions of a model stay, and what is not to be done, or done beside it."""

    keep: int | None = None
    is_dry_run: bool = False
    is_forgetful: bool = False
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """What can go: weights with the bytes that become free, and versions in models.yaml.

    `held` would go but for generations that can be gone back to, whose numbers are beside it.
    """

    garbage: tuple[tuple[Garbage, int], ...]
    forgotten: tuple[StoredVersion, ...]
    held: tuple[tuple[StoredVersion, tuple[int, ...]], ...] = ()


def collect(file: Path, options: CollectOptions, where: Target) -> None:
    """Show what can go, ask, and remove it."""
    with nullcontext() if options.is_dry_run else apply_lock(where.root):
        found = _find(parse_project(read_project(file))[0], options, where)
        _show(found)
        if not found.garbage and not found.forgotten:
            click.echo("There is nothing to remove.")
            return
        if options.is_dry_run:
            return
        confirm("Remove these weights? They have to be fetched again if they are needed.", yes=options.is_confirmed)
        # Entries first: if the file cannot be edited, nothing is gone yet.
        if found.forgotten:
            _forget(file, found.forgotten)
        store = weights_store(where)
        for garbage, _ in found.garbage:
            for path in garbage.paths:
                (store.remove_left_over if garbage.reason == LEFT_OVER else store.remove)(path)
    click.echo(f"Removed {len(found.garbage)} versions, {size_text(sum(size for _, size in found.garbage))} are free.")


def _find(parsed: Parsed, options: CollectOptions, where: Target) -> _Found:
    keep = parsed.config.storage.keep_versions if options.keep is None else options.keep
    current = versions_in_use(_texts(where.root / where.layout.current, where.layout), where.layout)
    by_generation = _by_generation(where)
    in_use = current.union(by_generation)
    store = weights_store(where)
    stored, left_over = store.verified(), store.left_over()
    garbage = find_garbage(parsed.config, stored, in_use, keep=keep, layout=where.layout)
    unneeded = find_garbage(parsed.config, stored, current, keep=keep, layout=where.layout)
    held = tuple((one.version, by_generation[one.version]) for one in unneeded if one.version in by_generation)
    forgotten = tuple(one for one in old_versions(parsed.config, keep) if one not in in_use)
    freed = tuple((one, sum(_freed_bytes(where.root / path) for path in one.paths)) for one in garbage)
    freed += tuple(
        (one, sum(left_over[path] for path in one.paths))
        for one in find_left_over(left_over, in_use, layout=where.layout)
    )
    return _Found(freed, forgotten if options.is_forgetful else (), held)


def _by_generation(where: Target) -> dict[StoredVersion, tuple[int, ...]]:
    """Map each version to the generations whose units load it: going back to one shall not have to fetch it again."""
    found: dict[StoredVersion, tuple[int, ...]] = {}
    for number in generations_of(where).history().numbers:
        texts = _texts(where.root / where.layout.generation_path(number), where.layout)
        for version in versions_in_use(texts, where.layout):
            found[version] = (*found.get(version, ()), number)
    return found


def _texts(generation: Path, layout: Layout) -> Iterator[str]:
    """Read what tells the units of a generation which weights to load."""
    for folder, pattern in ((layout.env, "*.env"), (layout.units, "*.service")):
        for file in sorted((generation / layout.content_name(folder)).glob(pattern)):
            # A link to nowhere is no unit, though it has the name of one.
            with suppress(FileNotFoundError):
                yield file.read_text("utf-8", errors="replace")


def _freed_bytes(first: Path) -> int:
    """Say how much room the files of a version leave: none where a source's cache has the same file."""
    files = [first.with_name(name).stat() for name in stored_names(first.name)]
    return sum(facts.st_size for facts in files if facts.st_nlink == 1)


def _show(found: _Found) -> None:
    if found.garbage:
        rows: list[tuple[str, ...]] = [("MODEL", "VERSION", "FREES", "WHY")]
        for garbage, size_bytes in found.garbage:
            freed = size_text(size_bytes) if size_bytes else "nothing (also in a cache)"
            rows.append((garbage.version.model_id, garbage.version.version_id, freed, garbage.reason))
        echo_table(rows)
    for one in found.forgotten:
        click.echo(f"{one.model_id}: version {one.version_id} goes from models.yaml.")
    for one, numbers in found.held:
        generations = f"generation{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        click.echo(f"{one.model_id}: version {one.version_id} stays for {generations}; see `kloros-infra gc`.")


def _forget(file: Path, versions: Sequence[StoredVersion]) -> None:
    """Take versions out of models.yaml and out of the lock."""

    def edits(parsed: Parsed) -> Sequence[Edit]:
        there = {(model.id, one.version_id) for model in parsed.config.models for one in model.versions}
        wanted = [one for one in versions if (one.model_id, one.version_id) in there]
        return [Remove(version_at(one.model_id, one.version_id)) for one in wanted]

    show_changes(change_models_file(file, edits))
    project = read_project(file)
    had = read_existing(project)
    named = {one.key for one in lockables(parse_project(project)[0].config)}
    LockFolder(file.parent).change(LockChange(gone=(had.lock.weights.keys() | had.unsound) - named))
