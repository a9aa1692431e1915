"""Every command answers --help, completes in three shells, and the demo runs from start to end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kloros_infra.cli.program import COMMANDS
from tests.integration.conftest import LAPTOP, SMOLLM2, Laptop, kloros_infra, modelctl, processes_naming

MODELCTL = ("list", "show", "status", "logs")
VARIABLES = {"kloros-infra": "_KLOROS_INFRA_COMPLETE", "modelctl": "_MODELCTL_COMPLETE"}


def test_help_lists_every_command() -> None:
    shown = kloros_infra("--help")
    assert shown.returncode == 0
    for name in COMMANDS.keys() - {"supervisor"}:
        assert f"  {name} " in shown.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    shown = kloros_infra(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"Usage: python -m kloros_infra {command}") or "Usage: kloros-infra" in shown.stdout


@pytest.mark.parametrize("command", MODELCTL)
def test_every_modelctl_command_has_help(command: str) -> None:
    shown = modelctl(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Usage: modelctl")


def test_an_unknown_command_is_refused_with_a_suggestion() -> None:
    refused = kloros_infra("aply")
    assert refused.returncode == 2
    assert "aply" in refused.stderr


@pytest.mark.parametrize("program", sorted(VARIABLES))
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str, program: str) -> None:
    script = kloros_infra("completion", shell, "--program", program)
    assert script.returncode == 0, script.stderr
    assert VARIABLES[program] in script.stdout
    checker = shutil.which(shell)
    if checker and shell != "fish":
        subprocess.run([checker, "-n"], input=script.stdout, text=True, check=True)


@pytest.mark.parametrize(("program", "words", "offered"), [("kloros-infra", "pl", "plan"), ("modelctl", "li", "list")])
def test_completion_offers_commands(program: str, words: str, offered: str) -> None:
    environment = {VARIABLES[program]: "bash_complete", "COMP_WORDS": f"{program} {words}", "COMP_CWORD": "1"}
    path = Path(sys.executable).with_name(program)
    answer = subprocess.run([path], env=environment, capture_output=True, text=True, check=True)
    assert f"plain,{offered}" in answer.stdout.splitlines()


def test_a_file_that_is_not_there_is_a_diagnostic(tmp_path: Path) -> None:
    refused = kloros_infra("validate", "--file", tmp_path / "models.yaml")
    assert refused.returncode == 1
    assert "KI100" in refused.stderr
    assert str(tmp_path / "models.yaml") in refused.stderr


def test_an_unlocked_model_is_reported_and_lock_mends_it(laptop: Laptop) -> None:
    (laptop.folder / "models.lock.yaml").unlink()
    refused = laptop.run("validate")
    assert refused.returncode == 1
    assert refused.stderr.count("KI301") == 2
    assert laptop.run("lock").returncode == 0
    assert (laptop.folder / "models.lock.yaml").read_bytes() == (LAPTOP / "models.lock.yaml").read_bytes()
    assert laptop.run("validate").returncode == 0


def test_compile_writes_a_folder_that_check_accepts_until_it_is_edited(laptop: Laptop) -> None:
    assert laptop.run("compile").returncode == 0
    assert laptop.run("compile", "--check").returncode == 0
    generated = laptop.folder / "generated"
    unit = next(generated.rglob("llama@smollm2*.service"))
    unit.write_text(unit.read_text() + "# edited\n")
    (generated / "extra").write_text("")
    stale = laptop.run("compile", "--check")
    assert stale.returncode == 1
    assert "extra" in stale.stdout
    assert unit.name in stale.stdout
    assert laptop.run("compile").returncode == 0
    assert not (generated / "extra").exists()
    assert laptop.run("compile", "--check").returncode == 0


def test_plan_asks_nothing_of_the_machine_and_knows_its_profiles(laptop: Laptop) -> None:
    planned = laptop.run("plan", "--root", laptop.root, "--detailed-exitcode")
    assert planned.returncode == 2
    assert "instance.smollm2-cpu_only will be created" in planned.stdout
    assert not laptop.root.exists()
    rows = laptop.run("plan", "--root", laptop.root, "--json").stdout.splitlines()
    assert '"type": "version"' in rows[0]
    unknown = laptop.run("plan", "--root", laptop.root, "--profile", "cpu_onyl")
    assert unknown.returncode == 1
    assert "KI520" in unknown.stderr
    assert "cpu_only" in unknown.stderr


def test_apply_without_yes_and_without_a_terminal_changes_nothing(laptop: Laptop) -> None:
    refused = laptop.run("apply", "--root", laptop.root)
    assert refused.returncode == 1
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]


def test_modelctl_lists_and_shows_models(laptop: Laptop) -> None:
    listed = modelctl("list", "--file", laptop.file, "--root", laptop.root)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[0].split() == ["ID", "VERSION", "SIZE", "PROFILE", "STATUS"]
    assert f"{SMOLLM2}  2026-11-22-01  98.4 MB   cpu_only  stopped" in listed.stdout
    shown = modelctl("show", "smollm2:135m", "--file", laptop.file)
    assert shown.returncode == 0, shown.stderr
    assert "30 layers" in shown.stdout
    unknown = modelctl("show", "smolm2", "--file", laptop.file)
    assert unknown.returncode == 1
    assert "Did you mean" in unknown.stderr


def test_profile_show_reads_the_routing_table_alone(laptop: Laptop) -> None:
    assert laptop.run("compile").returncode == 0
    routing = laptop.folder / "generated" / "etc" / "kloros-infra" / "routing.json"
    shown = kloros_infra("profile", "show", "--routing", routing)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("cpu_only:")
    missing = kloros_infra("profile", "show", "--routing", laptop.folder / "none.json")
    assert missing.returncode == 1
    assert "KI8" in missing.stderr


@pytest.mark.real_model
def test_the_demo_shows_three_answers_and_leaves_nothing_behind() -> None:
    before = set(Path(tempfile.gettempdir()).glob("kloros-infra-demo-*"))
    shown = kloros_infra("demo", timeout_s=180)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("tokens/s]") == 3
    assert shown.stdout.count("profile cpu_only") >= 3
    assert not processes_naming("kloros-infra-demo-")
    assert set(Path(tempfile.gettempdir()).glob("kloros-infra-demo-*")) == before
