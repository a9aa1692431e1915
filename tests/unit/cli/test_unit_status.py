"""What `status` says of a unit that has failed."""

from __future__ import annotations

import pytest

from kloros_infra.cli.unit_status import telling_line


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["KI818 No profile file", "error KI604 Port taken: 11434", "", "1 error"], "error KI604 Port taken: 11434"),
        (["loading", "out of memory"], "out of memory"),
        ([], ""),
    ],
)
def test_the_last_line_that_names_a_problem_tells_more_than_the_count_below_it(lines: list[str], told: str) -> None:
    assert telling_line(lines) == told
