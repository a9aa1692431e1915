"""Change models.yaml as a command: where things stand, and only if the whole is still right afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import click

from kloros_infra.adapters.models_file import FileChange, edit_models_files
from kloros_infra.cli.project import read_project
from kloros_infra.cli.terminal import is_colored
from kloros_infra.compiler.checks import CHECKS
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.diagnostics import Problems
from kloros_infra.editing.edits import Edit
from kloros_infra.errors import ProblemsError

COLORS = {"-": "red", "+": "green"}


def change_models_file(file: Path, make_edits: Callable[[Parsed], Sequence[Edit]]) -> tuple[FileChange, ...]:
    """Edit a models.yaml and what it includes; raise a KlorosError and change nothing where the result is wrong.

    `make_edits` is given the file as it is while nobody else edits it.
    """
    project = read_project(file)
    files = [file, *map(Path, project.parts)]
    return edit_models_files(files, lambda texts: make_edits(parse_texts(texts)), check=check_texts)


def parse_texts(texts: Mapping[str, str]) -> Parsed:
    """Read a models.yaml, whose name comes first, and what it includes; raise ProblemsError where it is wrong."""
    parsed, problems = _parse(texts)
    if parsed is None:
        raise ProblemsError(problems)
    return parsed


def check_texts(texts: Mapping[str, str]) -> Problems:
    """Find what is wrong with a models.yaml, but for its lock."""
    parsed, problems = _parse(texts)
    if parsed is None:
        return problems
    return (*problems, *(problem for check in CHECKS for problem in check(parsed)))


def _parse(texts: Mapping[str, str]) -> tuple[Parsed | None, Problems]:
    (file, text), *parts = texts.items()
    return parse(text, file=file, parts=dict(parts))


def show_changes(changes: Iterable[FileChange]) -> None:
    """Print the lines that an edit changed."""
    for change in changes:
        for line in difference(change):
            click.echo(click.style(line, fg=COLORS[line[0]]) if is_colored() and line[0] in COLORS else line)


def difference(change: FileChange) -> Iterator[str]:
    """Write what differs: the place, lines that went, lines that came."""
    before, after = change.before.splitlines(), change.after.splitlines()
    # Edits are few and near each other: what is equal around them need not be compared line by line with all else.
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    went, came = before[start : len(before) - end], after[start : len(after) - end]
    for kind, old, old_end, new, new_end in SequenceMatcher(None, went, came, autojunk=False).get_opcodes():
        if kind != "equal":
            yield f"{change.file}:{start + new + 1}"
            yield from (f"-{line}" for line in went[old:old_end])
            yield from (f"+{line}" for line in came[new:new_end])


def _common(lines: Sequence[str], others: Sequence[str]) -> int:
    """Count the lines with which both begin."""
    pairs = enumerate(zip(lines, others, strict=False))
    return next((index for index, (line, other) in pairs if line != other), min(len(lines), len(others)))
