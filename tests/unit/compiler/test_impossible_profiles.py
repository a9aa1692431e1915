"""Profiles that cannot hold what they are given: all of them at once, with the figures, and beside the warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.resolve import resolve
from kloros_infra.diagnostics import Problems, in_order
from tests.factories import a_lock_for

PLAIN = (Path(__file__).parents[2] / "cases" / "diagnostics" / "nothing_wrong" / "models.yaml").read_text()
SECOND = """\
  - id: second
    display_name: Second
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    versions:
      - {version_id: "1", gguf_url: file:///weights/second.gguf}
    profiles:
      mid: {port: 8611}
"""


def placed(text: str) -> Problems:
    parsed, problems = parse(text, file="models.yaml")
    assert parsed is not None, problems
    catalog, found = resolve(parsed, a_lock_for(parsed.config))
    assert catalog is not None, found
    _, more = place_all(catalog)
    return in_order((*problems, *found, *more))


@pytest.mark.parametrize(
    ("old", "new", "codes"),
    [
        ("vram: 12GiB", "vram: 600MiB", ["KI401"]),
        ("vram: 12GiB", "vram: 9TiB", []),
        ("context_tokens: 2048", "context_tokens: 10485760\n    parallel: 256", ["KI304", "KI401"]),
        ("vram: 12GiB", "vram: 3GiB, lockout: true", ["KI401"]),
    ],
)
def test_what_does_not_fit_is_told_with_figures(old: str, new: str, codes: list[str]) -> None:
    problems = placed(PLAIN.replace(old, new))

    assert sorted(problem.code for problem in problems) == codes
    assert all("MiB" in problem.detail for problem in problems if problem.code == "KI401")


def test_every_instance_that_does_not_fit_is_told() -> None:
    problems = placed(PLAIN.replace("\npurposes:", f"\n{SECOND}\npurposes:").replace("12GiB", "3GiB"))

    assert [problem.address for problem in problems if problem.code == "KI401"] == [
        "models.second.profiles.mid",
        "models.small.profiles.mid",
    ]


def test_instances_that_fit_alone_and_not_together_are_told() -> None:
    problems = placed(PLAIN.replace("\npurposes:", f"\n{SECOND}\npurposes:").replace("12GiB", "7GiB"))

    assert "KI402" in [problem.code for problem in problems]


def test_a_card_of_a_few_megabytes_is_told_apart_from_its_reserve() -> None:
    parsed, _ = parse(PLAIN.replace("12GiB", "12MiB"), file="models.yaml")
    assert parsed is not None
    _, problems = resolve(parsed, a_lock_for(parsed.config))

    (problem,) = problems
    assert problem.code == "KI223"
    assert "12 MiB" in problem.detail
    assert "512 MiB" in problem.detail
