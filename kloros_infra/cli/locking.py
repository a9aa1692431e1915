"""Read a project's models.yaml, pin its weights, and write the lock beside it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection

from kloros_infra.adapters.lock_folder import Checkpoint, LockFolder
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.project import Project
from kloros_infra.cli.terminal import is_terminal
from kloros_infra.cli.wiring import weights_sources
from kloros_infra.compiler.locked import check_cover, locate, lockables
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.parse_lock import Read, parse_entries
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors
from kloros_infra.editing.versions import find_model
from kloros_infra.errors import ProblemsError
from kloros_infra.executor.lock import LockRequest, LockWorld, lock_models
from kloros_infra.executor.lock_problems import unknown_model
from kloros_infra.ir.lock import Lock

NOTHING = Read(Lock({}), {}, ())


def lock_project(
    project: Project, *, upgraded: Collection[str] = (), is_refresh: bool = False
) -> tuple[Lock, Problems, int]:
    """Pin a project's weights and write its lock; give the lock, warnings, and how many files changed.

    Raises ProblemsError when any version fails; the others are written, so that the next run goes on from there.
    """
    from kloros_infra.adapters.gguf_file import read_header_of  # noqa: PLC0415 - start-up time

    parsed, problems = parse_project(project)
    before = read_existing(project)
    request = LockRequest(before.lock.weights, before.pins, known_models(parsed, upgraded), is_refresh)
    display = ReadingDisplay()
    folder = LockFolder(project.file.parent)
    written = Checkpoint(folder)
    world = LockWorld(weights_sources(), read_header_of, display.on_progress, written.add)
    try:
        lock, found = lock_models(parsed.config, request, world)
        problems = without_errors((*problems, *locate(parsed, found)))
    except BaseException:
        written.write_rest()
        raise
    finally:
        display.close()
    had = before.lock.weights.keys() | before.unsound
    written.end(gone=had - {one.key for one in lockables(parsed.config)})
    return lock, problems, len(folder.changed)


def check_project(project: Project) -> tuple[Lock, Problems]:
    """Compare a project's lock with its models.yaml without asking anybody; give it, and all that lock would mend."""
    parsed, problems = parse_project(project)
    before = read_existing(project)
    found = check_cover(parsed, before.lock, headers=project.headers, unsound=before.unsound)
    return before.lock, (*problems, *before.problems, *found)


def parse_project(project: Project) -> tuple[Parsed, Problems]:
    """Parse models.yaml; raise ProblemsError where it is wrong."""
    parsed, problems = parse(project.text, file=str(project.file), parts=project.parts)
    if parsed is None:
        raise ProblemsError(problems)
    return parsed, problems


def without_errors(problems: Problems) -> Problems:
    """Let warnings through; raise ProblemsError where there is an error among them."""
    if has_errors(problems):
        raise ProblemsError(problems)
    return problems


def read_existing(project: Project) -> Read:
    """Read the lock that is there, entry by entry; raise ProblemsError where it is no lock at all."""
    if project.lock_text is None:
        return NOTHING
    found, problems = parse_entries(project.lock_text, project.headers, file=str(project.lock_file))
    if found is None:
        raise ProblemsError(problems)
    return found


def known_models(parsed: Parsed, asked: Collection[str]) -> frozenset[str]:
    """Find models by id, name or alias; raise ProblemsError with a suggestion for each that is unknown."""
    found = [find_model(parsed.config, name) for name in asked]
    unknown = [unknown_model(one) for one in found if isinstance(one, Diagnostic)]
    if unknown:
        raise ProblemsError(unknown)
    return frozenset(model.id for model in found if not isinstance(model, Diagnostic))


class ReadingDisplay:
    """Shows how far all entries together are; several threads tell it."""

    def __init__(self) -> None:
        self._display = ProgressDisplay()
        self._is_terminal = is_terminal(sys.stderr)
        self._figures: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def on_progress(self, key: str, done: int, total: int) -> None:
        """Show one entry's progress; without a terminal, say once that it is read."""
        with self._lock:
            is_new = key not in self._figures
            self._figures[key] = (done, total)
            if self._is_terminal:
                sums = [sum(figures) for figures in zip(*self._figures.values(), strict=True)]
                count = sum(part < whole for part, whole in self._figures.values())
                text = f"reading {key}" + (f" and {count - 1} more" if count > 1 else "")
                self._display.long_step(text, *sums)
            elif is_new:
                self._display.long_step(f"reading {key}", done, total)

    def close(self) -> None:
        """End an open line."""
        self._display.close()
