"""Read a project's models.yaml, pin its weights, and write the lock beside it."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters.generated_folder import write_text_atomically
from kloros_infra.adapters.gguf_file import read_header_of
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.project import Project
from kloros_infra.cli.wiring import weights_sources
from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.parse_lock import parse_lock
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.errors import ProblemsError
from kloros_infra.executor.lock import LockWorld, lock_models
from kloros_infra.ir.lock import Lock


def lock_project(project: Project, *, refresh: bool) -> tuple[Lock, Problems, int]:
    """Pin a project's weights and write its lock; raise ProblemsError and write nothing when any model fails.

    Gives the lock, warnings, and how many files changed.
    """
    parsed, problems = parse(project.text, file=str(project.file))
    if parsed is None:
        raise ProblemsError(problems)
    display = ProgressDisplay()
    world = LockWorld(
        weights_sources(),
        read_header_of,
        on_progress=lambda key, done, total: display.long_step(f"reading {key}", done, total),
    )
    lock, found = lock_models(parsed.config, existing_lock(project), world, refresh=refresh)
    display.close()
    if has_errors(found):
        raise ProblemsError((*problems, *found))
    return lock, (*problems, *found), write_lock(project.file.parent, lock)


def existing_lock(project: Project) -> Lock | None:
    """Read the lock that is there; one that is damaged is made anew."""
    if project.lock_text is None:
        return None
    lock, problems = parse_lock(project.lock_text, project.headers, file=str(project.lock_file))
    return None if has_errors(problems) else lock


def write_lock(folder: Path, lock: Lock) -> int:
    """Write what differs, headers first and the lock last; remove headers that it no longer names."""
    texts = emit_lock(lock)
    changed = [path for path, text in texts.items() if not holds(folder / path, text)]
    for path in reversed(changed):
        write_text_atomically(folder / path, texts[path])
    headers = sorted(folder.joinpath(HEADERS_FOLDER).glob("*.json"))
    stale = [file for file in headers if f"{HEADERS_FOLDER}/{file.name}" not in texts]
    for file in stale:
        file.unlink()
    return len(changed) + len(stale)


def holds(file: Path, text: str) -> bool:
    """Say whether a file holds exactly a text."""
    return file.is_file() and file.read_text("utf-8") == text
