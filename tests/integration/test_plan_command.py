"""`plan` as a user runs it: its forms, its options, its exit codes; `why` beside it."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.ir.layout import Layout
from kloros_infra.planner.saved_plan import load_plan
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only

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
        (("--json", "--markdown"), "contradict"),
        (("--json", "--diff"), "contradict"),
        (("--matrix", "--only", "smollm2"), "contradict"),
        (("--destroy", "--reset-pins"), "contradict"),
        (("--with-weights",), "--destroy"),
        (("--out", "/dev/null"), "a device or a pipe"),
        (("--frobnicate",), "No such option"),
    ],
)
def test_a_wrong_command_line_ends_with_1_as_2_means_changes(
    planned: Laptop, words: tuple[str, ...], told: str
) -> None:
    refused = planned.run("plan", "--root", planned.root, *words)
    assert refused.returncode == 1
    assert told in refused.stderr


def test_a_stream_of_json_tells_errors_as_well(planned: Laptop, tmp_path: Path) -> None:
    into = tmp_path / "rows"
    for words in (("--only", "smolm2"), ("--profile", "none")):
        refused = planned.run("plan", "--root", planned.root, "--json", "--json-into", into, *words)
        assert refused.returncode == 1
        rows = [json.loads(row) for row in refused.stdout.splitlines()]
        assert [row["type"] for row in rows] == ["version", "diagnostic"]
        assert rows[1]["severity"] == "error"
        assert rows[1]["code"] in refused.stderr
        assert into.read_text() == refused.stdout


def test_what_stands_under_a_name_is_not_replaced_by_a_plan(planned: Laptop, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "rows")
    planned.run("plan", "--root", planned.root, "--json-into", link)
    planned.run("plan", "--root", planned.root, "--json-into", "/dev/null")
    assert link.is_symlink()
    assert (tmp_path / "rows").read_text().startswith('{"type": "version"')
    assert Path("/dev/null").is_char_device()


def test_a_part_stays_with_the_profile_that_is_active(laptop: Laptop) -> None:
    noted = laptop.root / Layout().profile_file
    noted.parent.mkdir(parents=True)
    noted.write_text("cpu_only\n")
    words = ("plan", "--root", laptop.root, "--only", "smollm2")
    assert laptop.run(*words).returncode == 2
    assert laptop.run(*words, "--profile", "cpu_only").returncode == 2
    noted.write_text("max\n")
    refused = laptop.run(*words)
    assert refused.returncode == 1
    assert "KI559" in refused.stderr


def test_a_plan_made_while_an_apply_works_says_so(laptop: Laptop) -> None:
    with apply_lock(laptop.root):
        shown = laptop.run("plan", "--root", laptop.root)
    assert shown.returncode == 2
    assert "Warning KI562" in shown.stdout
    assert "KI562" not in laptop.run("plan", "--root", laptop.root).stdout


def test_a_closed_terminal_ends_no_command_with_a_traceback(laptop: Laptop) -> None:
    for command, closing, code in (("plan", ">&-", 2), ("apply", "<&-", 1), ("apply", "< /dev/null", 1)):
        words = [sys.executable, "-m", "kloros_infra", command, "--file", laptop.file, "--root", laptop.root]
        line = f"{shlex.join(map(str, words))} {closing}"
        ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        assert ("give --yes" in ended.stderr) is (command == "apply")


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
    kinds = Counter(json.loads(row)["type"] for row in rows.splitlines())
    assert (kinds["version"], kinds["matrix_row"]) == (1, 8)
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
    version, *rows = [json.loads(row) for row in whole.stdout.splitlines()]
    assert version["type"] == "version"
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
    named = ("--file", "models.yaml", "--root", os.path.relpath(laptop.root, laptop.folder))
    argv = [sys.executable, "-m", "kloros_infra", "plan", *named, "--out", str(file), "--only", "smollm2"]
    assert subprocess.run(argv, cwd=laptop.folder, capture_output=True, check=False).returncode == 2
    for words in (("--only", "smollm2"), ("--root", laptop.root), ("--file", laptop.file), ("--manager", "supervisor")):
        contradicted = kloros_infra("apply", file, *words)
        assert contradicted.returncode == 2
        assert "as it is" in contradicted.stderr
    applied = kloros_infra("apply", file)
    assert applied.returncode == 0, applied.stderr + applied.stdout
    assert "Apply complete!" in applied.stdout
    stale = kloros_infra("apply", file)
    assert stale.returncode == 6
    assert "KI539" in stale.stderr
    assert "the generations" in stale.stderr
    rest = laptop.run("plan", "--root", laptop.root)
    assert rest.returncode == 2
    assert "gemma3" in rest.stdout
    restarted = laptop.run("apply", "--root", laptop.root, "--yes", "--only", "smollm2", "--replace", "smollm2")
    assert restarted.returncode == 0, restarted.stderr
    assert "instance.smollm2-cpu_only must be restarted" in restarted.stdout
    assert laptop.run("apply", "--root", laptop.root, "--yes").returncode == 0
    assert laptop.run("plan", "--root", laptop.root).returncode == 0
    assert laptop.destroy().returncode == 0


@pytest.mark.real_model
def test_a_saved_plan_is_undone_unless_it_is_confirmed(laptop: Laptop, tmp_path: Path) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0

    def wider(document: dict[str, object]) -> None:
        models = document["models"]
        assert isinstance(models, list)
        models[0]["display_name"] = "Another name"

    laptop.edit(wider)
    planned = laptop.run("plan", "--root", laptop.root, "--out", tmp_path / "saved")
    assert planned.returncode == 2, planned.stdout
    applied = kloros_infra("apply", tmp_path / "saved", "--confirm", "1s")
    assert applied.returncode == 0, applied.stderr + applied.stdout
    assert f"kloros-infra confirm --root {laptop.root}" in applied.stdout
    waiting = kloros_infra("status", "--root", laptop.root).stdout
    assert "to generation 1" in waiting
    deadline = time.monotonic() + 30
    while "last apply" in (shown := kloros_infra("status", "--root", laptop.root).stdout):
        assert time.monotonic() < deadline
        time.sleep(0.1)  # the pause between two polls of a condition with a deadline
    assert shown.startswith("Generation 1, profile")


def test_a_file_that_is_no_saved_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    refused = kloros_infra("apply", tmp_path / "x")
    assert refused.returncode == 1
    assert "KI538" in refused.stderr
