"""Read the files that a models.yaml includes: only regular files below its folder, and no more than is taken in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kloros_infra.compiler.composition import IncludePattern, has_wildcard, included, is_name_match
from kloros_infra.compiler.composition_problems import leaves_folder, not_included
from kloros_infra.compiler.source_builder import MAX_BYTES
from kloros_infra.compiler.source_encoding import decode
from kloros_infra.compiler.source_problems import too_big
from kloros_infra.diagnostics import Diagnostic, Span, in_order
from kloros_infra.errors import ProblemsError

_USUAL_BYTES = 2**16


def read_included(file: Path, text: str, *, passed_over: Collection[Path]) -> dict[str, str]:
    """Read what a models.yaml includes, by file name; raise ProblemsError with all that is wrong in any of the texts.

    A file that several patterns name is included once, where the first of them stands.
    """
    parts = _Parts(file.parent)
    for pattern in included(text, file=str(file)):
        parts.take(pattern, passed_over)
    if parts.problems:
        from kloros_infra.compiler.parse import parse  # noqa: PLC0415 - start-up time

        _, others = parse(text, file=str(file), parts=parts.texts, unread=parts.unread)
        raise ProblemsError(in_order((*parts.problems, *others)))
    return parts.texts


@dataclass(slots=True)
class _Parts:
    """What was read so far, and what could not be."""

    folder: Path
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    unread: set[Span] = field(default_factory=set)
    _bytes_left: int = MAX_BYTES

    def take(self, pattern: IncludePattern, passed_over: Collection[Path]) -> None:
        """Read all files that a pattern names."""
        paths: list[Path] = []
        with self._noting(self.folder, pattern.span):
            paths += _paths(self.folder, pattern.names)
            self._check_there(pattern, paths, passed_over)
        for path in paths:
            if path not in passed_over and str(path) not in self.texts:
                with self._noting(path, pattern.span):
                    self.texts[str(path)] = self._read(path, pattern.span)

    def _check_there(self, pattern: IncludePattern, found: list[Path], passed_over: Collection[Path]) -> None:
        """Say why a name that is there is not included; patterns pass over such things."""
        path = self.folder.joinpath(*pattern.names)
        if any(map(has_wildcard, pattern.names)):
            return
        if path in passed_over:
            raise ProblemsError(
                [not_included(pattern.span, pattern.text, "is models.yaml or its lock, and those are read anyway")]
            )
        if not found and path.is_dir():
            raise ProblemsError([not_included(pattern.span, pattern.text, "is a folder")])
        if not found and path.exists():
            raise ProblemsError([not_included(pattern.span, pattern.text, "is no plain file")])

    def _read(self, path: Path, span: Span) -> str:
        real = path.resolve(strict=True)
        if not real.is_relative_to(self.folder.resolve()):
            raise ProblemsError([leaves_folder(span, f"{path} is a link to {real}")])
        text = read_text(path, self._bytes_left)
        self._bytes_left -= len(text.encode())
        return text

    @contextmanager
    def _noting(self, path: Path, span: Span) -> Iterator[None]:
        """Go on after a file that cannot be read."""
        try:
            yield
        except OSError as error:
            self.problems.append(unreadable(path, error, span))
            self.unread.add(span)
        except ProblemsError as error:
            self.problems += error.problems
            self.unread.add(span)


def _paths(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Find files by the names of a pattern; those of one folder in the order of their names."""
    first, *rest = names
    found = (path.name for path in folder.iterdir()) if has_wildcard(first) else (first,)
    for path in (folder / name for name in sorted(found) if is_name_match(first, name)):
        if rest and path.is_dir():
            yield from _paths(path, tuple(rest))
        elif not rest and (path.is_file() or is_dangling(path)):
            yield path


def is_dangling(path: Path) -> bool:
    """Say whether a link leads nowhere."""
    return path.is_symlink() and not path.exists()


def read_text(file: Path, most_bytes: int = MAX_BYTES) -> str:
    """Read a file as UTF-8; raise ProblemsError where it is not, or larger; OSError where the system refuses.

    No more is read than that: the name may be that of a device without end.
    """
    with file.open("rb") as opened:
        # Room for all that is allowed is only made where it is needed: a lock has thousands of small files.
        usual = min(_USUAL_BYTES, most_bytes + 1)
        data = opened.read(usual)
        if len(data) == usual:
            data += opened.read(most_bytes + 1 - usual)
    if len(data) > most_bytes:
        what = "The file" if most_bytes == MAX_BYTES else "The file, with those included before it,"
        detail = f"{what} is larger than {MAX_BYTES // 2**20} MiB."
        raise ProblemsError([too_big(Span(str(file), 1, 1), detail)])
    text, problems = decode(data, file=str(file))
    if text is None:
        raise ProblemsError(problems)
    return text


def unreadable(file: Path, error: OSError, included_at: Span | None = None) -> Diagnostic:
    """Say that a file cannot be read."""
    rest = "Name the models.yaml with --file." if included_at is None else "Mend the file, or take it out of `include`."
    return Diagnostic(
        code="KI100",
        summary="File cannot be read",
        detail=f"{file}: {error.strerror or error}.",
        hint=rest,
        span=included_at,
    )
