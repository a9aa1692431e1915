"""Options and chat templates against a build's own list; what is refused is in tests/cases/diagnostics."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.compiler.check_options import asks_llama_server, check_options, options_not_checked
from kloros_infra.compiler.llama_server_options import parse_help
from kloros_infra.compiler.parse import Parsed, parse

CASES = Path(__file__).parents[2] / "cases" / "diagnostics"
PLAIN = (CASES / "nothing_wrong" / "models.yaml").read_text()
HELP = (CASES / "options_that_llama_server_does_not_know" / "help.txt").read_text()


def parsed(setting: str = "") -> Parsed:
    found, problems = parse(PLAIN.replace("    cost_tier: low\n", f"    cost_tier: low\n{setting}"), file="models.yaml")
    assert found is not None, problems
    return found


@pytest.mark.parametrize(
    ("setting", "is_asked"),
    [
        ("", False),
        ("    arguments: {threads: 8}\n", True),
        ("    chat_template: chatml\n", True),
        ("    arguments: {ctx-size: 4096}\n", False),
    ],
)
def test_llama_server_is_asked_only_where_it_has_to_be(setting: str, is_asked: bool) -> None:
    assert asks_llama_server(parsed(setting)) is is_asked


@pytest.mark.parametrize(
    "argument",
    [
        "threads: 8",
        'threads: "8"',
        "mmap: false",
        "no-mmap: true",
        "mlock: true",
        "reasoning: auto",
        "reasoning-format: deepseek",
        "cpu-strict: 1",
        "pooling: [mean, cls]",
    ],
)
def test_what_the_build_knows_is_accepted(argument: str) -> None:
    assert check_options(parsed(f"    arguments: {{{argument}}}\n"), parse_help(HELP)) == ()


def test_a_word_that_stands_beside_a_number_is_accepted() -> None:
    text = "--spec-draft-n N                        an exact number, or 'auto'\n"

    problems = check_options(parsed("    arguments: {spec-draft-n: auto}\n"), parse_help(text))

    assert problems == ()


def test_a_build_that_lists_no_templates_says_nothing_of_them() -> None:
    assert check_options(parsed("    chat_template: phi4\n"), parse_help("--threads N\n")) == ()


def test_without_options_there_is_nothing_to_check() -> None:
    assert options_not_checked(parsed("    chat_template: phi4\n"), "it is not there") == ()
