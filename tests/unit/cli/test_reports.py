"""Reports for programs: each holds every problem, with its place in the units that the form demands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.cli.reports.github import github_report
from kloros_infra.cli.reports.json_report import json_report
from kloros_infra.cli.reports.report import Report, guide_entry
from kloros_infra.cli.reports.sarif import file_uri, sarif_report, utf16_column
from kloros_infra.cli.stopwatch import StationTime
from kloros_infra.diagnostics import Diagnostic, Severity, Span

CHECKOUT = Path(__file__).parents[3]
TEXT = "version: 1\nhosts: {🦙🦙: {role: lokal}}\n"

NOT_ACCEPTED = Diagnostic(
    "KI105", "Value not accepted", "100% of {it}\nis wrong.", "Write: a, b.", span=Span("my models.yaml", 2, 19)
)
EPHEMERAL = Diagnostic(
    "KI213", "Port in the ephemeral range", "Why.", "", Severity.WARNING, Span("sub/more.yaml", 3, 1), "models.a.port"
)
NO_ROOM = Diagnostic("KI401", "Model does not fit", "By 3 MiB.", "Less.", address="models.a.profiles.max")


def a_report(*problems: Diagnostic, times: tuple[StationTime, ...] = ()) -> Report:
    return Report("my models.yaml", problems, {"my models.yaml": TEXT}, times=times)


MIXED = a_report(NOT_ACCEPTED, EPHEMERAL, NO_ROOM, NOT_ACCEPTED)

DIAGNOSTICS = st.builds(
    Diagnostic,
    code=st.from_regex(r"KI[1-8][0-9]{2}", fullmatch=True),
    summary=st.text(min_size=1),
    detail=st.text(),
    hint=st.text(),
    severity=st.sampled_from(Severity),
    span=st.none() | st.builds(Span, st.text(min_size=1), st.integers(1, 9), st.integers(1, 99)),
    address=st.text(),
)


class TestJson:
    def test_a_document_holds_every_problem_with_its_place(self) -> None:
        document = json.loads(json_report(MIXED))

        assert (document["version"], document["valid"]) == (1, False)
        assert (document["errors"], document["warnings"], document["models"]) == (3, 1, None)
        assert "timings" not in document
        assert document["diagnostics"][0] == {
            "code": "KI105",
            "severity": "error",
            "summary": "Value not accepted",
            "detail": "100% of {it}\nis wrong.",
            "hint": "Write: a, b.",
            "file": "my models.yaml",
            "line": 2,
            "column": 19,
            "address": "",
            "doc": "docs/diagnostics.md#ki105-value-not-accepted",
        }
        without_place = document["diagnostics"][2]
        assert (without_place["file"], without_place["line"], without_place["column"]) == (None, None, None)

    def test_times_come_with_their_shares(self) -> None:
        times = (StationTime("compose", 0.03), StationTime("values", 0.01))
        document = json.loads(json_report(a_report(EPHEMERAL, times=times)))

        assert document["valid"]
        assert document["timings"] == [
            {"station": "compose", "seconds": 0.03, "share": 0.75},
            {"station": "values", "seconds": 0.01, "share": 0.25},
        ]

    @given(st.lists(DIAGNOSTICS, max_size=5))
    def test_any_problem_can_be_written(self, problems: list[Diagnostic]) -> None:
        document = json.loads(json_report(a_report(*problems)))
        assert [one["detail"] for one in document["diagnostics"]] == [one.detail for one in problems]


class TestGithub:
    def test_each_problem_is_a_command_whose_values_cannot_end_it(self) -> None:
        assert github_report(MIXED).splitlines() == [
            "::error file=my models.yaml,line=2,col=19,title=KI105 Value not accepted"
            "::100%25 of {it}%0Ais wrong.%0Ahelp: Write: a, b.",
            "::warning file=sub/more.yaml,line=3,col=1,title=KI213 Port in the ephemeral range::Why.",
            "::error file=my models.yaml,title=KI401 Model does not fit::By 3 MiB.%0Ahelp: Less.",
            "::error file=my models.yaml,line=2,col=19,title=KI105 Value not accepted"
            "::100%25 of {it}%0Ais wrong.%0Ahelp: Write: a, b.",
        ]
        assert github_report(a_report()) == ""

    @given(DIAGNOSTICS)
    def test_what_is_written_is_read_back(self, problem: Diagnostic) -> None:
        """GitHub's runner splits the properties at commas and the first `=`, then puts the escapes back."""
        written = github_report(a_report(problem))
        found = re.fullmatch(r"::(error|warning) ([^\r\n]*?)::([^\r\n]*)", written)

        assert found
        properties = dict(pair.split("=", 1) for pair in found[2].split(","))
        assert unescaped(properties["title"]) == f"{problem.code} {problem.summary}"
        assert unescaped(properties["file"]) == (problem.span.file if problem.span else "my models.yaml")
        assert unescaped(found[3]).startswith(problem.detail)


def unescaped(text: str) -> str:
    for escape, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(escape, character)
    return text


def closed(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an object that has exactly these properties."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


# What we write of SARIF 2.1.0, as its schema describes it and as forges demand it: rules with descriptions and help,
# results with a rule and a place in a file.
COUNT = {"type": "integer", "minimum": 1}
LEVEL = {"enum": ["warning", "error"]}
MESSAGE = closed({"text": {"type": "string", "minLength": 1}})
RULE = closed(
    {
        "id": {"type": "string", "pattern": "^KI[0-9]{3}$"},
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": closed({"level": LEVEL}),
    }
)
LOCATION = closed(
    {
        "physicalLocation": closed(
            {
                "artifactLocation": closed({"uri": {"type": "string", "format": "uri-reference", "minLength": 1}}),
                "region": closed({"startLine": COUNT, "startColumn": COUNT}),
            },
            optional=("region",),
        ),
        "logicalLocations": {"type": "array", "items": closed({"fullyQualifiedName": {"type": "string"}})},
    },
    optional=("logicalLocations",),
)
RESULT = closed(
    {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION, "minItems": 1, "maxItems": 1},
    }
)
DRIVER = closed(
    {
        "name": {"const": "kloros-infra"},
        "version": {"type": "string", "pattern": "^[0-9]"},
        "rules": {"type": "array", "items": RULE, "uniqueItems": True},
    }
)
RUN = closed(
    {
        "tool": closed({"driver": DRIVER}),
        "columnKind": {"const": "utf16CodeUnits"},
        "results": {"type": "array", "items": RESULT},
    }
)
SARIF = closed(
    {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": RUN, "minItems": 1, "maxItems": 1},
    }
)


class TestSarif:
    def test_results_point_to_their_rules_and_places(self) -> None:
        (run,) = json.loads(sarif_report(MIXED))["runs"]
        rules = run["tool"]["driver"]["rules"]

        assert [rule["id"] for rule in rules] == ["KI105", "KI213", "KI401"]
        assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == ["KI105", "KI213", "KI401", "KI105"]
        assert [result["level"] for result in run["results"]] == ["error", "warning", "error", "error"]
        assert run["results"][0]["message"]["text"] == "100% of {{it}}\nis wrong.\nWrite: a, b."
        # Two llamas of two code units each stand before the column.
        assert run["results"][0]["locations"] == [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "my%20models.yaml"},
                    "region": {"startLine": 2, "startColumn": 21},
                }
            }
        ]
        assert run["results"][2]["locations"] == [
            {
                "physicalLocation": {"artifactLocation": {"uri": "my%20models.yaml"}},
                "logicalLocations": [{"fullyQualifiedName": "models.a.profiles.max"}],
            }
        ]

    @given(st.lists(DIAGNOSTICS.filter(lambda one: one.detail or one.hint), max_size=5))
    def test_any_problem_can_be_written(self, problems: list[Diagnostic]) -> None:
        log = json.loads(sarif_report(a_report(*problems)))
        jsonschema.validate(log, SARIF)
        assert len(log["runs"][0]["results"]) == len(problems)

    def test_nothing_found_is_a_run_without_results(self) -> None:
        log = json.loads(sarif_report(a_report()))
        jsonschema.validate(log, SARIF)
        assert log["runs"][0]["results"] == []

    @pytest.mark.parametrize(
        ("file", "uri"),
        [
            ("models.yaml", "models.yaml"),
            ("./a b/ö:1.yaml", "a%20b/%C3%B6%3A1.yaml"),
            ("/etc/my models.yaml", "file:///etc/my%20models.yaml"),
            ("\udcff.yaml", "%FF.yaml"),
        ],
    )
    def test_a_file_is_named_by_a_uri(self, file: str, uri: str) -> None:
        assert file_uri(file) == uri

    @pytest.mark.parametrize(("column", "expected"), [(1, 1), (9, 9), (10, 11), (11, 13), (99, 101)])
    def test_columns_count_code_units(self, column: int, expected: int) -> None:
        assert utf16_column(Span("f", 2, column), {"f": TEXT}) == expected
        assert utf16_column(Span("g", 2, column), {"f": TEXT}) == column


def test_a_guide_entry_is_the_anchor_of_its_heading() -> None:
    assert guide_entry(NO_ROOM) == "docs/diagnostics.md#ki401-model-does-not-fit"
    shares = Diagnostic("KI214", "gpu_percentages do not fit the profile", "", "")
    assert guide_entry(shares) == "docs/diagnostics.md#ki214-gpu_percentages-do-not-fit-the-profile"


def test_every_link_leads_to_a_heading_of_the_guide() -> None:
    headings = re.findall(r"^### (KI\d{3}) (.+)$", (CHECKOUT / "docs" / "diagnostics.md").read_text(), re.MULTILINE)
    anchors = {guide_entry(Diagnostic(code, title, "", "")) for code, title in headings}
    said = {
        guide_entry(Diagnostic(found[1], found[2], "", ""))
        for case in (CHECKOUT / "tests" / "cases" / "diagnostics").glob("*/expected.diagnostics")
        for found in re.finditer(r"^\S+ (?:error|warning) (KI\d{3}) (.+) \[.*\]$", case.read_text(), re.MULTILINE)
    }
    assert said
    assert said - anchors == set()
