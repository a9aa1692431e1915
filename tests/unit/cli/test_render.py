"""Problems as text: each with place, excerpt, reason and remedy, and at the end how many there were."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest

from kloros_infra.cli.render import SHOWN_IN_FULL, count_lines, diagnostic_lines, one_line, show_problems
from kloros_infra.diagnostics import Diagnostic, Severity, Span

SOURCES = {"models.yaml": "version: 1\nhosts: {名前: {role: lokal}}\n", "more.yaml": "# a comment\nid: [\n"}


def problem(
    code: str = "KI105", *, span: Span | None = None, address: str = "", is_warning: bool = False
) -> Diagnostic:
    severity = Severity.WARNING if is_warning else Severity.ERROR
    return Diagnostic(code, f"Summary of {code}", "Why it is so.", "What to do.", severity, span, address)


def plain(one: Diagnostic) -> list[str]:
    return [click.unstyle(line) for line in diagnostic_lines(one, SOURCES)]


def test_a_caret_stands_under_the_column_in_the_file_that_the_span_names() -> None:
    assert plain(problem(span=Span("models.yaml", 2, 19))) == [
        "models.yaml:2:19: error KI105 Summary of KI105",
        "    2 | hosts: {名前: {role: lokal}}",
        "      | " + " " * 20 + "^",
        "  Why it is so.",
        "  help: What to do.",
    ]
    assert plain(problem(span=Span("more.yaml", 2, 5)))[1:3] == ["    2 | id: [", "      |     ^"]


def test_a_problem_without_a_text_says_its_address() -> None:
    assert plain(problem(address="models.code", is_warning=True))[:2] == [
        "models.code: warning KI105 Summary of KI105",
        "  Why it is so.",
    ]
    assert plain(problem(span=Span("gone.yaml", 1, 1)))[1] == "  Why it is so."
    assert plain(problem(span=Span("models.yaml", 99, 1)))[1] == "  Why it is so."
    assert plain(problem())[0] == "error KI105 Summary of KI105"


def test_few_problems_are_counted_and_many_are_counted_by_code() -> None:
    few = [problem(), problem(is_warning=True), problem(is_warning=True)]
    many = (
        [problem("KI206")] * 201 + [problem("KI203")] * 2 + [problem("KI102")] * 2 + [problem("KI213", is_warning=True)]
    )

    assert count_lines([]) == ()
    assert count_lines(few) == ("1 error and 2 warnings",)
    assert count_lines(many) == (
        "205 errors and 1 warning",
        "  201  KI206 Summary of KI206",
        "    2  KI102 Summary of KI102",
        "    2  KI203 Summary of KI203",
        "    1  KI213 Summary of KI213",
    )


def test_the_first_of_many_problems_are_shown_in_full_and_the_rest_in_one_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    span = Span("models.yaml", 1, 1)
    show_problems([problem(span=span, address=f"models.{number}") for number in range(250)], SOURCES)
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err.count("Why it is so.") == 250
    assert shown.err.count("help: What to do.") == SHOWN_IN_FULL
    assert shown.err.count("models.yaml:1:1: error KI105 Why it is so.\n") == 50
    assert shown.err.endswith("\n\n250 errors\n  250  KI105 Summary of KI105\n")


def test_a_long_reason_is_cut_to_its_first_line() -> None:
    several = replace(problem(address="models.code"), detail="It failed.\n    | its log")

    assert click.unstyle(one_line(several)) == "models.code: error KI105 It failed."
