"""`plan` as a user runs it: its forms, its options, its exit codes; `why` beside it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros_infra.planner.saved_plan import load_plan
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra

PLAN = ("plan", "--root")


@pytest.fixture
def planned(laptop: Laptop) -> Iterator[Laptop]:
    """A project that nobody applied; plan leaves no trace of itself."""
    yield laptop
    assert not laptop.root.exists()


def test_every_form_tells_the_same(planned: Laptop, tmp_path: Path) -> None:
    beside = tmp_path / "plan.jsonl"
    shown = planned.run("plan", "--root", planned.root, "--json-into", beside)
    assert shown.returncode == 2
    (summary,) = [line for line in shown.stdout.splitlines() if line.startswith("Plan: ")]
    as_json = planned.run("plan", "--root", planned.root, "--json")
    assert as_json.returncode == 2
    assert as_json.stdout == beside.read_text()
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert (rows[0]["type"], rows[-1]["type"]) == ("version", "change_summary")
    assert summary.startswith(f"Plan: {rows[-1]['add']} to add, 0 to change, 0 to remove")
    markdown = planned.run("plan", "--root", planned.root, "--markdown", "--diff")
    assert markdown.stdout.startswith(f"**{summary}**")
    assert "+++ b/etc/kloros-infra/current/routing.json" in markdown.stdout


def test_diffs_follow_the_plan(planned: Laptop) -> None:
    shown = planned.run("plan", "--root", planned.root, "--diff").stdout
    assert shown.index("Plan: ") < shown.index("--- /dev/null")


def test_a_saved_plan_is_its_owners_alone_and_can_be_read(planned: Laptop, tmp_path: Path) -> None:
    file = tmp_path / "plan"
    shown = planned.run("plan", "--root", planned.root, "--out", file, "--only", "smollm2")
    assert shown.returncode == 2, shown.stderr
    assert f"kloros-infra apply {file}" in shown.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    saved, problems = load_plan(file.read_text())
    assert not problems
    assert saved is not None
    assert saved.request.only == ("smollm2",)
    assert saved.plan.steps


def test_only_leaves_the_other_model_out(planned: Laptop) -> None:
    shown = planned.run("plan", "--root", planned.root, "--only", SMOLLM2).stdout
    assert shown.count("WARNING: only instance.smollm2-cpu_only") == 2
    assert "instance.smollm2-cpu_only will be created" in shown
    assert "gemma" not in shown


@pytest.mark.parametrize("option", ["--only", "--replace"])
def test_an_unknown_name_is_refused_with_a_suggestion(planned: Laptop, option: str) -> None:
    refused = planned.run("plan", "--root", planned.root, option, "smolm2")
    assert refused.returncode == 1
    assert "KI537" in refused.stderr
    assert "Did you mean 'smollm2'?" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--if", "rtx3060"), "gpu=NAME:absent"),
        (("--if", "gpu=:absent"), "gpu=NAME:absent"),
        (("--destroy", "--only", "code"), "contradict"),
        (("--out", "x", "--matrix"), "contradict"),
        (("--frobnicate",), "No such option"),
    ],
)
def test_a_wrong_command_line_ends_with_1_as_2_means_changes(
    planned: Laptop, words: tuple[str, ...], told: str
) -> None:
    refused = planned.run("plan", "--root", planned.root, *words)
    assert refused.returncode == 1
    assert told in refused.stderr


def test_nothing_to_destroy_is_no_change(planned: Laptop) -> None:
    shown = planned.run("plan", "--root", planned.root, "--destroy")
    assert shown.returncode == 0, shown.stderr


def test_gpus_can_be_supposed(planned: Laptop) -> None:
    unknown = planned.run("plan", "--root", planned.root, "--if", "gpu=rtx3060:absent")
    assert unknown.returncode == 1
    assert "KI537" in unknown.stderr


def test_a_matrix_has_a_row_for_each_set_of_gpus(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "models.yaml"
    words = ("plan", "--file", file, "--root", tmp_path / "root")
    shown = kloros_infra(*words, "--matrix")
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 1 + 8
    into = tmp_path / "rows"
    rows = kloros_infra(*words, "--matrix", "--json", "--json-into", into).stdout
    assert rows == into.read_text()
    assert len(rows.splitlines()) == 1 + 8
    assert kloros_infra(*words, "--matrix", "--markdown").stdout.startswith("| GPUS PRESENT |")
    absent = kloros_infra(*words, "--if", "gpu=rtx5080:absent", "--if", "gpu=rtx3060:present", "--json").stdout
    started = [row["address"] for row in map(json.loads, absent.splitlines()) if row.get("unit_action") == "start"]
    assert "instance.fast-fallback" in started


def test_why_names_the_line_and_the_rule(laptop: Laptop) -> None:
    told = kloros_infra("why", "smollm2-cpu_only:LLAMA_ARG_PORT", "--file", laptop.file)
    assert told.returncode == 0, told.stderr
    line = next(number for number, text in enumerate(laptop.file.read_text().splitlines(), 1) if "port:" in text)
    assert f"{laptop.file}:{line}" in told.stdout
    assert "rule: " in told.stdout
    whole = kloros_infra("why", "kloros-router.service", "--file", laptop.file, "--json")
    rows = [json.loads(row) for row in whole.stdout.splitlines()]
    assert {row["unit"] for row in rows} == {"kloros-router.service"}
    for wrong in ("smollm", "smollm2-cpu_only:LLAMA_ARG_PRT"):
        refused = kloros_infra("why", wrong, "--file", laptop.file)
        assert refused.returncode == 1
        assert "KI537" in refused.stderr


@pytest.mark.real_model
def test_a_real_server_says_what_it_answers_and_generations_can_be_compared(laptop: Laptop) -> None:
    assert laptop.apply().returncode == 0
    shown = laptop.run("plan", "--root", laptop.root, "--replace", "smollm2", "--json")
    assert shown.returncode == 2, shown.stderr
    rows = [json.loads(row) for row in shown.stdout.splitlines()]
    (change,) = [row for row in rows if row["type"] == "planned_change"]
    assert change["unit_action"] == "restart"
    assert change["impact"]["requests"] == 0
    none_before = kloros_infra("diff", "--root", laptop.root)
    assert none_before.returncode == 1
    assert "KI587" in none_before.stderr
    same = kloros_infra("diff", "1", "1", "--root", laptop.root)
    assert same.returncode == 0, same.stderr
    assert same.stdout.endswith("No differences.\n")
    removal = laptop.run("plan", "--root", laptop.root, "--destroy")
    assert removal.returncode == 2
    assert "instance.smollm2-cpu_only will be removed" in removal.stdout
    assert laptop.destroy().returncode == 0


@pytest.mark.real_model
def test_a_saved_plan_is_carried_out_as_it_is_and_only_once(laptop: Laptop, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    assert laptop.run("plan", "--root", laptop.root, "--out", file, "--only", "smollm2").returncode == 2
    contradicted = kloros_infra("apply", file, "--only", "smollm2")
    assert contradicted.returncode == 2
    assert "as it is" in contradicted.stderr
    applied = kloros_infra("apply", file)
    assert applied.returncode == 0, applied.stderr + applied.stdout
    assert "Apply complete!" in applied.stdout
    stale = kloros_infra("apply", file)
    assert stale.returncode == 6
    assert "KI539" in stale.stderr
    assert "the current generation" in stale.stderr
    rest = laptop.run("plan", "--root", laptop.root)
    assert rest.returncode == 2
    assert "gemma3" in rest.stdout
    restarted = laptop.run("apply", "--root", laptop.root, "--yes", "--only", "smollm2", "--replace", "smollm2")
    assert restarted.returncode == 0, restarted.stderr
    assert "instance.smollm2-cpu_only must be restarted" in restarted.stdout
    assert laptop.run("apply", "--root", laptop.root, "--yes").returncode == 0
    assert laptop.run("plan", "--root", laptop.root).returncode == 0
    assert laptop.destroy().returncode == 0


def test_a_file_that_is_no_saved_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    refused = kloros_infra("apply", tmp_path / "x")
    assert refused.returncode == 1
    assert "KI538" in refused.stderr
