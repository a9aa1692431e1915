"""Names that nothing declares; what is said of each is in tests/cases/diagnostics."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.references import COMPARISONS, check_references

PLAIN = (Path(__file__).parents[2] / "cases" / "diagnostics" / "nothing_wrong" / "models.yaml").read_text()


def with_candidates(names: list[str]) -> Parsed:
    parsed, problems = parse(PLAIN.replace("candidates: [small]", f"candidates: [{', '.join(names)}]"), file="m.yaml")
    assert parsed is not None, problems
    return parsed


@pytest.mark.parametrize("count", [1, 100])
def test_every_unknown_name_is_told(count: int) -> None:
    problems = list(check_references(with_candidates([f"smal{number}" for number in range(count)])))

    assert [problem.hint for problem in problems] == ["Did you mean 'small'?"] * count


def test_likely_names_are_looked_for_only_so_often() -> None:
    problems = list(check_references(with_candidates([f"smal{number}" for number in range(COMPARISONS + 1)])))

    assert len(problems) == COMPARISONS + 1
    assert problems[-2].hint == "Did you mean 'small'?"
    assert problems[-1].hint == "Declare it, or name a model that is declared."
