"""What `validate` found in one project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.cli.stopwatch import StationTime
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors

GUIDE = "docs/diagnostics.md"


@dataclass(frozen=True, slots=True)
class Report:
    """A project's problems, with the texts that their spans point into.

    The counts are None where the project could not be read so far; `times` is empty unless they were asked for.
    """

    file: str
    problems: Problems
    sources: Mapping[str, str]
    model_count: int | None = None
    instance_count: int | None = None
    times: tuple[StationTime, ...] = ()

    @property
    def is_valid(self) -> bool:
        return not has_errors(self.problems)

    @property
    def error_count(self) -> int:
        return sum(problem.is_error for problem in self.problems)

    @property
    def warning_count(self) -> int:
        return len(self.problems) - self.error_count


def guide_entry(problem: Diagnostic) -> str:
    """Name a problem's entry in the guide, by the anchor that GitHub and GitLab make of its heading."""
    heading = f"{problem.code} {problem.summary}".lower()
    return f"{GUIDE}#{re.sub(r'[^a-z0-9_ -]', '', heading).replace(' ', '-')}"
