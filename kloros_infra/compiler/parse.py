"""Pass 1 of 4: models.yaml text, with the texts that it includes → Config."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

from kloros_infra.compiler.composition import check_included, compose, marked_elsewhere
from kloros_infra.compiler.foreign_files import foreign_file
from kloros_infra.compiler.source import Address, Source, read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, Span, has_errors, in_order
from kloros_infra.ir.config import Config

NO_PARTS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the operator wrote, and where: later passes point at places too."""

    config: Config
    source: Source

    def span(self, address: Address) -> Span:
        """Find a scalar, or the key that holds a list or mapping, by its keys and indices from the top."""
        return self.source.span(address)

    def locate(self, problem: Diagnostic, address: Address, *, at_key: bool = False) -> Diagnostic:
        """Give a problem its place: that of the value, or of its key."""
        span = self.source.key_span(address) if at_key else self.source.span(address)
        return replace(problem, span=span, address=self.source.path(address))


@dataclass(frozen=True, slots=True)
class Composed:
    """The texts of a project as one; `is_whole` says whether nothing of them is missing."""

    source: Source
    is_whole: bool


def parse(
    text: str, *, file: str, parts: Mapping[str, str] = NO_PARTS, unread: Set[Span] = frozenset()
) -> tuple[Parsed | None, Problems]:
    """Read models.yaml; report every problem of its syntax, keys and single values at once.

    `parts` are the texts that it includes, by file name, in the order of its `include`; `unread` are the places there
    of files that could not be read, which was told.
    """
    composed, problems = read_all(text, file=file, parts=parts, unread=unread)
    return (None, problems) if composed is None else check_values(composed, problems)


def read_all(
    text: str, *, file: str, parts: Mapping[str, str] = NO_PARTS, unread: Set[Span] = frozenset()
) -> tuple[Composed | None, Problems]:
    """Do the first half of `parse`: read the texts and join them; None where the root cannot be read."""
    root, problems = read(text, file=file)
    read_parts = [_read_part(one, file=name) for name, one in parts.items()]
    sources = [source for source, _ in read_parts if source is not None]
    problems = (*problems, *(problem for _, found in read_parts for problem in found))
    problems = tuple(marked_elsewhere(problems, sources if root is None else [root, *sources]))
    if root is None:
        return None, in_order(problems)
    without = tuple(problem for problem in check_included(root, parts) if problem.span not in unread | root.unread)
    stopped = any(part is None and has_errors(found) for part, found in read_parts)
    source, more = compose(root, sources)
    return Composed(source, not (unread or without or stopped)), (*problems, *without, *more)


def check_values(composed: Composed, before: Problems) -> tuple[Parsed | None, Problems]:
    """Do the other half of `parse`: check keys and values; `before` is what reading found."""
    source = composed.source
    foreign = foreign_file(source)
    if foreign is not None:
        return None, in_order((*before, foreign))
    config, found = read_spec(source, Config)
    found = tuple(problem for problem in found if not _follows(problem, source, is_whole=composed.is_whole))
    problems = _distinct((*before, *found))
    if config is None or has_errors(problems):
        return None, problems
    return Parsed(config, source), problems


def _read_part(text: str, *, file: str) -> tuple[Source | None, Problems]:
    """Read an included file; one without values is no error: what was in it may stand in comments."""
    source, problems = read(text, file=file)
    hint = "Take it out of `include`, or write what belongs there."
    return source, tuple(
        replace(problem, severity=Severity.WARNING, hint=hint) if problem.code == "KI110" else problem
        for problem in problems
    )


def _follows(problem: Diagnostic, source: Source, *, is_whole: bool) -> bool:
    """Say whether a problem is only there because something before it could not be read or joined."""
    is_missing_section = problem.code == "KI103" and "." not in problem.address
    return problem.span in source.unread or (is_missing_section and not is_whole)


def _distinct(problems: Problems) -> Problems:
    """Order problems; a warning says nothing more where the value is wrong anyway."""
    wrong = {problem.span for problem in problems if problem.is_error}
    return in_order(problem for problem in problems if problem.is_error or problem.span not in wrong)
