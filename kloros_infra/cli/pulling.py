"""`modelctl pull`: bring weights here, and where models.yaml does not have them yet, write them into it first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import click

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.lock_folder import LockChange, LockFolder
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.editing import change_models_file, show_changes
from kloros_infra.cli.fetching import fetch
from kloros_infra.cli.locking import lock_project, parse_project, read_existing, without_errors
from kloros_infra.cli.project import read_project
from kloros_infra.cli.render import show_problems
from kloros_infra.cli.versions import found, next_step
from kloros_infra.cli.wiring import Target, weights_sources
from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.editing.edits import Edit
from kloros_infra.editing.hub_reference import HubReference, choose_file, choose_projector, parse_reference
from kloros_infra.editing.new_model import Pulled
from kloros_infra.editing.pull import Addition, Wishes, add_pulled, provisional, pulled_from
from kloros_infra.editing.versions import find_model
from kloros_infra.errors import ProblemsError
from kloros_infra.executor.lock import LockRequest, LockWorld, lock_models
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import MMPROJ_SUFFIX, Lock, LockedWeights, mmproj_key, weights_key
from kloros_infra.ir.stored_weights import StoredWeights
from kloros_infra.planner.desired import weights_step


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What the command was told beside the model."""

    quantization: str | None = None
    name: str | None = None
    is_promotion: bool = False


def pull(file: Path, asked: str, options: PullOptions, where: Target) -> None:
    """Bring the weights of a model in models.yaml, or of a repository on the hub, onto this machine."""
    parsed, _ = parse_project(read_project(file))
    model = find_model(parsed.config, asked)
    if isinstance(model, Diagnostic):
        pulled = look_at(parsed.config, _reference(asked, options.quantization, model))
        added = add(file, pulled, Wishes(today(), options.name, options.is_promotion))
    elif options == PullOptions():
        added = pinned(file, model)
    else:
        raise click.UsageError("--quant, --name and --promote are for weights that models.yaml does not have yet.")
    fetch([weights_step(stored) for stored in stored_weights(added, where.layout)], where)
    click.echo(next_step(file, added.model_id, added.version_id))


def today() -> str:
    """Give the date, by this machine's clock and time zone."""
    return datetime.fromtimestamp(SystemClock().epoch_s()).strftime("%Y-%m-%d")


def _reference(asked: str, quantization: str | None, unknown: Diagnostic) -> HubReference:
    """Read what is no model's name as an address on the hub; a word without a slash was meant as a name."""
    reference = parse_reference(asked)
    if isinstance(reference, Diagnostic):
        raise ProblemsError([reference if "/" in asked else replace(unknown, hint=f"{unknown.hint} {reference.hint}")])
    return replace(reference, quantization=quantization or reference.quantization)


def look_at(config: Config, reference: HubReference) -> Pulled:
    """Choose weights on the hub and pin them, reading no more than their headers."""
    from kloros_infra.adapters.hub_repository import list_files  # noqa: PLC0415 - start-up time

    files = list_files(reference)
    source = reference.url(found(choose_file(reference, files)).path)
    projector = choose_projector(files)
    asked = provisional(config, source, reference.url(projector.path) if projector else None)
    lock, problems = _read_headers(asked)
    without_errors(tuple(replace(problem, address="") for problem in problems))
    return pulled_from(reference.repository, lock)


def _read_headers(config: Config) -> tuple[Lock, Problems]:
    """Pin the weights of a configuration, and say what is wrong with them."""
    from kloros_infra.adapters.gguf_file import read_header_of  # noqa: PLC0415 - start-up time

    display = ProgressDisplay()
    world = LockWorld(
        weights_sources(),
        read_header_of,
        on_progress=lambda key, done, total: display.long_step(f"reading {key.partition('@')[0]}", done, total),
        on_locked=lambda _: None,
    )
    try:
        return lock_models(config, LockRequest(), world)
    finally:
        display.close()


def add(file: Path, pulled: Pulled, wishes: Wishes) -> Addition:
    """Write weights into models.yaml and its lock, unless they are there already; show what changed."""
    made: list[tuple[Addition, Problems]] = []
    before = read_existing(read_project(file)).lock

    def edits(parsed: Parsed) -> Sequence[Edit]:
        addition, problems = add_pulled(parsed.config, before, pulled, wishes)
        if addition is None:
            raise ProblemsError(problems)
        made.append((addition, problems))
        return addition.edits

    changes = change_models_file(file, edits)
    addition, problems = made[-1]
    show_changes(changes)
    for problem in problems:
        if problem.is_error:
            click.echo(f"{problem.address} is null: {problem.detail}")
    if not changes:
        click.echo(f"{addition.model_id} has these weights already, as version {addition.version_id}.")
    add_to_lock(file, addition.entries)
    return addition


def add_to_lock(file: Path, entries: Mapping[str, LockedWeights]) -> None:
    """Write entries that were pinned just now beside those that the lock has."""
    known = read_existing(read_project(file)).lock.weights
    # The same bytes stay pinned to the commit that was reviewed.
    new = {key: one for key, one in entries.items() if key not in known or known[key].sha256 != one.sha256}
    LockFolder(file.parent).change(LockChange(new))


def pinned(file: Path, model: ModelSpec) -> Addition:
    """Find what the lock pins of a model's version in use; lock it if that is not done yet."""
    version = next((one for one in model.versions if one.version_id == model.version_in_use), None)
    if version is None:
        raise ProblemsError([_nothing_to_fetch(model)])
    wanted = {weights_key(model.id, version.version_id): version.gguf_url}
    if version.mmproj_url is not None:
        wanted[mmproj_key(model.id, version.version_id)] = (version.mmproj_url,)
    project = read_project(file)
    entries = read_existing(project).lock.weights
    if any(not _is_pinned(entries.get(key), source) for key, source in wanted.items()):
        lock, problems, _ = lock_project(project)
        show_problems(problems, project.sources)
        entries = lock.weights
    derived = [_not_pinned(key) for key in wanted if entries[key].is_derived]
    if derived:
        raise ProblemsError(derived)
    return Addition(model.id, version.version_id, (), {key: entries[key] for key in wanted})


def _is_pinned(entry: LockedWeights | None, source: tuple[str, ...]) -> bool:
    return entry is not None and entry.source == source and not entry.is_derived


def stored_weights(added: Addition, layout: Layout) -> Iterator[StoredWeights]:
    """Say where the store keeps what an addition pins."""
    for key, entry in added.entries.items():
        if key.endswith(MMPROJ_SUFFIX):
            yield StoredWeights(layout.mmproj_path(added.model_id, added.version_id), entry)
        else:
            path = layout.weights_path(added.model_id, added.version_id, parts=entry.part_count)
            yield StoredWeights(path, entry)


def _nothing_to_fetch(model: ModelSpec) -> Diagnostic:
    return Diagnostic(
        code="KI531",
        summary="Nothing to fetch",
        detail=f"{model.id} has no version in models.yaml that is current: no weights of it belong on this machine.",
        hint="Add a version, or pull an address on the hub with --name and this model's name.",
        address=f"models.{model.id}.versions",
    )


def _not_pinned(key: str) -> Diagnostic:
    return Diagnostic(
        code="KI532",
        summary="Weights cannot be reached",
        detail=f"{key} is in the lock by a derived header only: nobody has seen its bytes.",
        hint="Pull it where its source can be reached.",
        address=f"weights.{key}",
    )
