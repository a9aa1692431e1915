"""Problems as values: a code, where it is, what is wrong, why, and how to mend it.

Codes are grouped: KI1xx text and types of models.yaml, KI2xx references and clashes, KI3xx the lock
and weights, KI4xx placement, KI5xx the machine at plan and apply, KI6xx service managers,
KI7xx bus, KI8xx routes and requests, KI9xx cards and `doctor`. Every code has an entry in docs/diagnostics.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is: an error stops the command, a warning is shown and it goes on."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: `detail` says what with the values in it, `hint` says what to do about it."""

    code: str
    summary: str
    detail: str
    hint: str
    severity: Severity = Severity.ERROR
    span: Span | None = None
    address: str = ""

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR


Problems = tuple[Diagnostic, ...]


def in_order(problems: Iterable[Diagnostic]) -> Problems:
    """Sort problems by place, then code, dropping exact repeats."""
    nowhere = Span("", 0, 0)
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (p.span or nowhere, p.address, p.code, p.detail)))


def quoted_log(lines: Iterable[str]) -> str:
    """Set what a process wrote last apart, below a problem's detail; it cannot steer the terminal."""
    plain = (
        "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines
    )
    return "".join(f"\n    | {line}" for line in plain) or " It wrote nothing to its log."


def has_errors(problems: Iterable[Diagnostic]) -> bool:
    """Say whether any problem stops the command."""
    return any(problem.is_error for problem in problems)
