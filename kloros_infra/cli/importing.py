"""Take models over from another program: read what it has, fit it into a models.yaml, pin it, and say what was lost."""

from __future__ import annotations

import os
import socket
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import click

from kloros_infra.adapters.gguf_file import read_header, read_header_of
from kloros_infra.adapters.hub_repository import list_files
from kloros_infra.adapters.lock_folder import LockChange, LockFolder
from kloros_infra.adapters.models_file import FileChange
from kloros_infra.adapters.new_file import write_new_file
from kloros_infra.adapters.ollama_store import OllamaBlobs, find_store, read_store, usual_stores
from kloros_infra.cli.editing import change_models_file, check_texts, difference, parse_texts
from kloros_infra.cli.locking import ReadingDisplay, parse_project, without_errors
from kloros_infra.cli.project import Project, read_project, read_source
from kloros_infra.cli.render import show_problems, texts_at
from kloros_infra.cli.terminal import terminal_width
from kloros_infra.cli.wiring import weights_sources
from kloros_infra.compiler.locked import locate
from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.editing.hub_reference import HubFile, HubReference
from kloros_infra.editing.project import edit_project
from kloros_infra.errors import ObstacleError, ProblemsError, UnreachableError
from kloros_infra.executor.lock import LockRequest, LockWorld, lock_models
from kloros_infra.executor.lock_ports import WeightsSource
from kloros_infra.ir.config import Config
from kloros_infra.ir.lock import Lock
from kloros_infra.ir.names import as_name
from kloros_infra.migration import problems as wrong
from kloros_infra.migration.described import (
    Described,
    Facts,
    FileFacts,
    take_over_described,
    wanted_files,
    wanted_repositories,
)
from kloros_infra.migration.fitting import Fitted, Surroundings, fit, surroundings_of
from kloros_infra.migration.llama_presets import describe_llama_presets
from kloros_infra.migration.llama_swap import describe_llama_swap
from kloros_infra.migration.llama_swap_file import parse_llama_swap
from kloros_infra.migration.ollama import take_over_ollama
from kloros_infra.migration.taken_over import Row, TakenOver
from kloros_infra.migration.written_models import edits_of, new_file

NAME_WIDTH = 36


@dataclass(frozen=True, slots=True)
class Taken:
    """What another program has, in our words; `vouching` are sources that say the sha256 of their files."""

    origin: str
    over: TakenOver
    vouching: tuple[WeightsSource, ...] = ()
    is_pinned: bool = False


def take_from_ollama(store: Path | None, asked: Sequence[str], *, is_verifying: bool) -> Taken:
    """Read an Ollama store; without a path, the one that Ollama itself would use."""
    usual = usual_stores(os.environ, Path(os.environ.get("HOME", "/")))
    folder = find_store((store,) if store else usual)
    models, problems = read_store(folder, asked, read_header)
    over = take_over_ollama(models)
    vouching = () if is_verifying else (OllamaBlobs(models),)
    return Taken(f"the Ollama store {folder}", replace(over, problems=problems), vouching, is_pinned=True)


def take_from_llama_swap(file: Path) -> Taken:
    """Read a configuration of llama-swap."""
    parsed, problems = parse_llama_swap(read_source(file), os.environ, file=str(file))
    if parsed is None:
        raise ProblemsError(problems)
    described, rows, found = describe_llama_swap(*parsed)
    over = take_over_described(described, look_up(described), origin="llama-swap")
    over = replace(over, rows=(*over.rows, *rows), problems=(*problems, *found, *over.problems))
    return Taken(f"llama-swap's {file}", over)


def take_from_llama_presets(file: Path) -> Taken:
    """Read presets of llama-server's router mode."""
    described, problems = describe_llama_presets(read_source(file), file=str(file))
    if has_errors(problems):
        raise ProblemsError(problems)
    over = take_over_described(described, look_up(described), origin="llama-server's presets")
    return Taken(f"the presets {file}", replace(over, problems=(*problems, *over.problems)))


def look_up(described: Sequence[Described]) -> Facts:
    """Look at the files that a configuration names, and ask the hub for the repositories of which it names no file."""
    files = {source: facts for source in wanted_files(described) if (facts := _look_at(source)) is not None}
    return Facts(files, list_repositories(wanted_repositories(described)))


def list_repositories(names: Sequence[str]) -> dict[str, tuple[HubFile, ...]]:
    """List the files of repositories; where the hub does not answer, nobody else is asked after."""
    found: dict[str, tuple[HubFile, ...]] = {}
    for name in names:
        try:
            found[name] = list_files(HubReference(name))
        except ObstacleError:
            continue
        except UnreachableError:
            break
    return found


def _look_at(source: str) -> FileFacts | None:
    path = Path(source.removeprefix("file://"))
    if not source.startswith("file://") or not path.is_file():
        return None
    try:
        return FileFacts(path.stat().st_size, read_header(path))
    except ObstacleError:
        # Whatever is wrong with it, `lock` says it in full.
        return FileFacts(path.stat().st_size, None)


def add_to(into: Path, taken: Taken, *, is_dry_run: bool) -> None:
    """Fit what was taken over into a models.yaml, new or not; pin it where that needs no download; report."""
    show_problems(without_errors(taken.over.problems), texts_at(taken.over.problems))
    if not (taken.over.models or taken.over.personas):
        show_report(taken.origin, taken.over.rows)
        raise ProblemsError([wrong.nothing_there(taken.origin)])
    today = date.today().isoformat()
    project = read_project(into) if into.exists() else None
    addition = _add_to_file(project, taken, today) if project else _begin_file(into, taken, today)
    lock, warnings = _pin(addition, taken)
    if is_dry_run:
        for change in addition.changes:
            click.echo("\n".join(difference(change)))
    else:
        _write(addition, lock, taken, today)
    show_report(taken.origin, addition.fitted.rows)
    show_problems(warnings, {})
    _say_what_is_next(into, addition, lock, is_dry_run=is_dry_run)


@dataclass(frozen=True, slots=True)
class _Addition:
    """A models.yaml as it will be; `project` is what it was, None where there was none."""

    file: Path
    project: Project | None
    parsed: Parsed
    changes: tuple[FileChange, ...]
    fitted: Fitted


def _add_to_file(project: Project, taken: Taken, today: str) -> _Addition:
    parsed, _ = parse_project(project)
    fitted = fit(taken.over, surroundings_of(parsed.config))
    texts = {str(project.file): project.text, **project.parts}
    changed, problems = edit_project(texts, edits_of(fitted, today=today))
    if changed is None:
        raise ProblemsError(problems)
    without_errors(check_texts({**texts, **changed}))
    changes = tuple(FileChange(Path(name), texts[name], text) for name, text in changed.items())
    return _Addition(project.file, project, parse_texts({**texts, **changed}), changes, fitted)


def _begin_file(into: Path, taken: Taken, today: str) -> _Addition:
    fitted = fit(taken.over, Surroundings())
    host = as_name(socket.gethostname().partition(".")[0]) or "localhost"
    text = new_file(fitted, origin=taken.origin, host=host, today=today)
    texts = {str(into): text}
    without_errors(check_texts(texts))
    return _Addition(into, None, parse_texts(texts), (FileChange(into, "", text),), fitted)


def _pin(addition: _Addition, taken: Taken) -> tuple[Lock | None, Problems]:
    """Pin the weights of the models that are added; None where `lock` has to fetch or hash them."""
    if not taken.is_pinned or not addition.fitted.models:
        return None, ()
    ids = {fitted.model.id for fitted in addition.fitted.models}
    models = tuple(model for model in addition.parsed.config.models if model.id in ids)
    config: Config = addition.parsed.config.model_copy(update={"models": models})
    display = ReadingDisplay()
    world = LockWorld((*taken.vouching, *weights_sources()), read_header_of, display.on_progress, lambda _: None)
    try:
        lock, problems = lock_models(config, LockRequest(), world)
    finally:
        display.close()
    return lock, without_errors(locate(addition.parsed, problems))


def _write(addition: _Addition, lock: Lock | None, taken: Taken, today: str) -> None:
    if addition.project is None:
        write_new_file(addition.file, addition.changes[0].after, replace=False)
    elif addition.changes:
        # Fitted once more, into the file as it is under its lock: somebody may have edited it meanwhile.
        change_models_file(
            addition.file, lambda now: edits_of(fit(taken.over, surroundings_of(now.config)), today=today)
        )
    if lock is not None:
        LockFolder(addition.file.parent).change(LockChange(lock.weights))


def show_report(origin: str, rows: Sequence[Row]) -> None:
    """Print what was taken over, what was lost on the way, and what could not be taken over."""
    taken = [row for row in rows if row.became]
    left = [row for row in rows if not row.became]
    for title, some in ((f"Taken over from {origin}:", taken), ("Not taken over:", left)):
        if some:
            click.echo(f"\n{title}")
            for line in report_lines(some, width=terminal_width()):
                click.echo(line)


def report_lines(rows: Sequence[Row], *, width: int) -> Iterator[str]:
    """Write rows as lines: the name over there, what it became, and notes below; what all share comes once."""
    names = max((min(len(row.name), NAME_WIDTH) for row in rows), default=0)
    indent = " " * (names + 4)
    shared = shared_notes(rows)
    for row in rows:
        became = f"→ {', '.join(row.became)}" if row.became else row.notes[0] if row.notes else ""
        yield from _wrapped(f"{row.name:<{names}}  {became}", width, "  ", indent)
        for note in row.notes if row.became else row.notes[1:]:
            if note not in shared:
                yield from _wrapped(note, width, f"{indent}· ", f"{indent}  ")
    for note in shared:
        yield from _wrapped(f"all of them: {note}", width, "  ", "    ")


def shared_notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """List the notes that every row has, where that saves lines."""
    taken = [row for row in rows if row.became]
    if len(taken) < len(rows) or len(rows) < 2:
        return ()
    return tuple(note for note in rows[0].notes if all(note in row.notes for row in rows))


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )


def _say_what_is_next(into: Path, addition: _Addition, lock: Lock | None, *, is_dry_run: bool) -> None:
    models, personas = len(addition.fitted.models), len(addition.fitted.personas)
    done = "would be added" if is_dry_run else "added"
    pinned = f", {len(lock.weights)} pinned in the lock" if lock is not None else ""
    click.echo(f"\n{into}: {_counted(models, 'model')} and {_counted(personas, 'persona')} {done}{pinned}.")
    if not is_dry_run and not addition.fitted.is_empty:
        first = "lock" if lock is None and addition.fitted.models else "validate"
        click.echo(f"Next: kloros-infra {first} --file {into}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
