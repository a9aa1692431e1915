"""Read a project's models.yaml, pin its weights, and write the lock beside it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from pathlib import Path

from kloros_infra.adapters.generated_folder import write_text_atomically
from kloros_infra.adapters.gguf_file import read_header_of
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.project import Project
from kloros_infra.cli.wiring import weights_sources
from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, emit_lock
from kloros_infra.compiler.locked import check_cover, locate, lockables
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.parse_lock import Read, parse_entries
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.errors import ProblemsError
from kloros_infra.executor.lock import LockRequest, LockWorld, lock_models
from kloros_infra.executor.lock_problems import unknown_model
from kloros_infra.ir.lock import Lock, LockedWeights

# Writing what is pinned so far takes at most this share of the time.
_MOST_SHARE_OF_WRITING = 0.05

NOTHING = Read(Lock({}), {}, ())


def lock_project(
    project: Project, *, upgraded: Collection[str] = (), is_refresh: bool = False
) -> tuple[Lock, Problems, int]:
    """Pin a project's weights and write its lock; give the lock, warnings, and how many files changed.

    Raises ProblemsError when any version fails; the others are kept, so that the next run goes on from there.
    """
    parsed, problems = parse_project(project)
    before = read_existing(project)
    request = LockRequest(before.lock.weights, before.pins, known_models(parsed, upgraded), is_refresh)
    display = ReadingDisplay()
    kept = Checkpoint(project.file.parent, before, {one.key for one in lockables(parsed.config)})
    world = LockWorld(weights_sources(), read_header_of, display.on_progress, kept.add)
    try:
        lock, found = lock_models(parsed.config, request, world)
        problems = without_errors((*problems, *locate(parsed, found)))
    except BaseException:
        kept.write_rest()
        raise
    finally:
        display.close()
    write_lock(project.file.parent, lock)
    return lock, problems, count_changes(project, lock)


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


def known_models(parsed: Parsed, names: Collection[str]) -> frozenset[str]:
    """Check the names of models; raise ProblemsError with a suggestion for each that is unknown."""
    ids = [model.id for model in parsed.config.models]
    unknown = [unknown_model(name, ids) for name in names if name not in ids]
    if unknown:
        raise ProblemsError(unknown)
    return frozenset(names)


def write_lock(folder: Path, lock: Lock) -> None:
    """Write what differs, headers first and the lock last; remove headers that it no longer names."""
    texts = emit_lock(lock)
    for path in reversed(list(texts)):
        if not holds(folder / path, texts[path]):
            write_text_atomically(folder / path, texts[path])
    for file in sorted(folder.joinpath(HEADERS_FOLDER).glob("*.json")):
        if f"{HEADERS_FOLDER}/{file.name}" not in texts:
            file.unlink()


def count_changes(project: Project, lock: Lock) -> int:
    """Say in how many files a lock differs from what the project had."""
    before = {**project.headers, LOCK_FILE: project.lock_text}
    after = emit_lock(lock)
    return sum(before.get(path) != after.get(path) for path in before.keys() | after.keys())


def holds(file: Path, text: str) -> bool:
    """Say whether a file holds exactly a text."""
    return file.is_file() and file.read_text("utf-8") == text


class Checkpoint:
    """Writes what is pinned so far beside what the lock had, so that an interrupted lock goes on where it stopped.

    An entry whose header is lost can only be written once it is read again, and until then its pin is in the old file.
    """

    def __init__(self, folder: Path, before: Read, wanted: AbstractSet[str]) -> None:
        self._folder = folder
        self._weights = dict(before.lock.weights)
        self._lost = set(before.unsound & wanted)
        self._has_news = False
        self._due = 0.0

    def add(self, entry: LockedWeights) -> None:
        """Take an entry up, and write all of them unless that was done a moment ago."""
        self._weights[entry.key] = entry
        self._lost.discard(entry.key)
        self._has_news = True
        began = time.monotonic()
        if began >= self._due:
            self.write_rest()
            ended = time.monotonic()
            self._due = ended + (ended - began) / _MOST_SHARE_OF_WRITING

    def write_rest(self) -> None:
        """Write what has not been written yet."""
        if self._has_news and not self._lost:
            write_lock(self._folder, Lock(self._weights))
            self._has_news = False


class ReadingDisplay:
    """Shows how far all entries together are; several threads tell it."""

    def __init__(self) -> None:
        self._display = ProgressDisplay()
        self._is_terminal = sys.stderr.isatty()
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
