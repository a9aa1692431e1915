"""`explain`, `schema` and `show` as commands: what they print, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kloros_infra.cli.commands import explain_command, schema_command, show_command
from kloros_infra.cli.program import COMMANDS, program
from kloros_infra.compiler.settings import sections, settings
from kloros_infra.errors import ProblemsError

CHECKOUT = Path(__file__).parents[3]


def explain(*words: str) -> Result:
    return CliRunner().invoke(explain_command.command, words)


def show(*words: str | Path) -> Result:
    return CliRunner().invoke(show_command.command, [str(word) for word in words])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(CHECKOUT / "examples" / "includes", tmp_path / "project")
    return tmp_path / "project" / "models.yaml"


@pytest.mark.parametrize("name", ["explain", "schema", "show"])
def test_the_program_knows_the_command(name: str) -> None:
    shown = CliRunner().invoke(program, [name, "--help"])

    assert shown.exit_code == 0
    assert COMMANDS[name]


def test_explain_without_a_path_lists_the_sections() -> None:
    lines = explain().stdout.splitlines()

    assert [line.split()[0] for line in lines] == [one.name for one in sections()]
    assert len(explain("--recursive").stdout.splitlines()) == len(settings())


def test_explain_tells_a_setting_as_text_and_as_data() -> None:
    assert explain("models.context_tokens").stdout.startswith("models[].context_tokens\n\n  Context that each request")
    assert json.loads(explain("models.context_tokens", "--json").stdout)["path"] == "models[].context_tokens"
    assert [one["path"] for one in json.loads(explain("--json").stdout)] == [one.path for one in sections()]
    assert json.loads(explain("bus", "--json", "--recursive").stdout)["settings"][0]["path"] == "bus.xsub"


def test_explain_writes_the_reference() -> None:
    assert explain("--markdown").stdout == (CHECKOUT / "docs" / "language.md").read_text()


@pytest.mark.parametrize("words", [("modles",), ("modles", "--json")])
def test_explain_refuses_what_is_no_setting(words: tuple[str, ...]) -> None:
    refused = explain(*words)

    assert isinstance(refused.exception, ProblemsError)
    assert [problem.code for problem in refused.exception.problems] == ["KI535"]


def test_schema_prints_what_is_published() -> None:
    published = CHECKOUT / "schema"

    assert CliRunner().invoke(schema_command.command).stdout == (published / "models.schema.json").read_text()
    assert CliRunner().invoke(schema_command.command, ["--part"]).stdout == (published / "part.schema.json").read_text()


def test_show_joins_all_files(project: Path) -> None:
    shown = show("--file", project)

    assert shown.exit_code == 0, shown.stderr
    assert "  - id: gemma3-270m-q4_k_m  " in shown.stdout
    assert f"# {project.parent}/models/gemma3.yaml:3\n" in shown.stdout
    assert "include" not in shown.stdout
    assert "standard" not in shown.stdout


def test_show_settles_what_is_left_out(project: Path) -> None:
    shown = show("--resolved", "smollm2", "--file", project)

    assert shown.stdout.startswith("id: smollm2-135m-instruct-q4_1  ")
    assert "lease: 10m" in shown.stdout
    assert f"# defaults, {project}:24\n" in shown.stdout


def test_show_gives_data(project: Path) -> None:
    data = json.loads(show("--resolved", "--json", "bridge", "--file", project).stdout)

    assert data["/bridge/ports"] == {
        "path": "bridge.ports",
        "value": [11454],
        "file": str(project),
        "line": 44,
        "column": 10,
        "origin": "written",
    }
    assert data["/bridge/host"]["origin"] == "standard"


def test_what_show_prints_can_be_used_as_models_yaml(project: Path) -> None:
    one_file = project.parent / "one.yaml"
    one_file.write_text(show("--resolved", "--file", project).stdout)
    again = show("--resolved", "--file", one_file).stdout

    assert [line.split("  #")[0].rstrip() for line in again.splitlines()] == [
        line.split("  #")[0].rstrip() for line in one_file.read_text().splitlines()
    ]


def test_show_refuses_a_wrong_file_and_an_unknown_part(project: Path) -> None:
    unknown = show("smolm2", "--file", project)
    project.write_text(project.read_text().replace("version: 1", "version: 2"))
    wrong = show("--file", project)

    assert isinstance(unknown.exception, ProblemsError)
    assert isinstance(wrong.exception, ProblemsError)
    assert [problem.code for problem in unknown.exception.problems] == ["KI536"]
    assert [problem.code for problem in wrong.exception.problems] == ["KI105"]


def test_show_warns_and_goes_on(project: Path) -> None:
    (project.parent / "models" / "empty.yaml").write_text("# nothing yet\n")
    shown = show("--file", project)

    assert shown.exit_code == 0
    assert "KI110" in shown.stderr
    assert shown.stdout.startswith("version: 1  #")
