"""`kloros-infra doctor`: how it asks, what it shows, and that nothing holds it up."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.programs import Program, find_llama_server
from kloros_infra.cli.commands import doctor_command
from kloros_infra.cli.doctor.answers import Question
from kloros_infra.cli.doctor.card_facts import Kernel, see_server
from kloros_infra.cli.doctor.gathering import gather, gather_for
from kloros_infra.cli.doctor.installation_facts import see_choice, see_generation, see_units
from kloros_infra.cli.doctor.launchers import program_of
from kloros_infra.cli.doctor.machine_facts import see_room
from kloros_infra.cli.doctor.network_facts import see_bus, see_router
from kloros_infra.cli.doctor.project_view import View, view_project
from kloros_infra.cli.doctor.report import report_json, report_lines
from kloros_infra.cli.program import COMMANDS
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.compiler.emit_launcher import launcher
from kloros_infra.doctor.check import Check, Group, Status
from kloros_infra.doctor.examine import NAMES, examine
from kloros_infra.doctor.facts import Choice, Generation, Units, Unseen, Wanted
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedCard
from kloros_infra.planner.desired import Desired
from tests.factories import a_routing_table

CHECKOUT = Path(__file__).parents[3]
INCLUDES = CHECKOUT / "examples" / "includes" / "models.yaml"
WELL = Check("clock", Group.MACHINE, Status.OK, "kept right")
BAD = Check("disk", Group.STORAGE, Status.FAILURE, "it is\x1b[31m full", "KI960", "Nothing fits.", "Make room.")


def doctor(*words: str | Path) -> Result:
    return CliRunner().invoke(doctor_command.command, [str(word) for word in words])


@pytest.fixture
def where(tmp_path: Path) -> Target:
    return Target(tmp_path / "root", ManagerChoice.SUPERVISOR)


def a_program(folder: Path, script: str) -> Path:
    file = folder / "llama-server"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def with_launcher(where: Target, program: Path, library_path: str | None = None) -> View:
    tree = {where.layout.program_path("llama-server"): launcher(str(program), library_path, ())}
    return View(where, Wanted(has_systemd=False), installed=Desired(tree, where.layout, ""))


def test_the_program_knows_the_command() -> None:
    assert COMMANDS["doctor"]


def test_the_report_has_groups_lines_and_a_sum() -> None:
    lines = [click.unstyle(line) for line in report_lines((WELL, BAD))]

    assert lines == [
        "Machine",
        "  ok       clock: kept right",
        "",
        "Disk and weights",
        "  failure  disk: it is [31m full [KI960]",
        "           why: Nothing fits.",
        "           fix: Make room.",
        "",
        "1 ok, 0 warnings, 1 failure.",
    ]


def test_the_report_is_data_too() -> None:
    found = json.loads(report_json((WELL, BAD)))

    assert (found["version"], found["counts"]) == (1, {"ok": 1, "warning": 0, "failure": 1})
    assert found["checks"][1]["code"] == "KI960"
    assert found["checks"][0]["group"] == "Machine"


def test_without_models_yaml_and_installation_the_machine_is_looked_at(
    where: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = doctor("--root", where.root, "--json")

    found = json.loads(shown.stdout)
    assert shown.exit_code == 0
    assert {check["name"] for check in found["checks"]} == set(NAMES)
    assert found["counts"]["failure"] == 0
    assert not where.root.exists()


def test_errors_of_models_yaml_end_with_1_and_hide_nothing_else(where: Target, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("version: 1\nmodles: []\n")
    shown = doctor("--root", where.root, "-f", file)

    assert shown.exit_code == 1
    assert "failure  models_yaml" in shown.stdout
    assert "disk:" in shown.stdout


def test_single_checks_can_be_named(where: Target) -> None:
    shown = doctor("--root", where.root, "--only", "disk", "--only", "time_zone", "--json", "-f", INCLUDES)

    assert [check["name"] for check in json.loads(shown.stdout)["checks"]] == ["time_zone", "disk"]
    assert doctor("--only", "nonsense").exit_code == 2


def test_what_is_wanted_comes_from_models_yaml(where: Target) -> None:
    wanted = view_project(INCLUDES, where).wanted

    assert wanted.source == "models.yaml"
    assert [(card.name, card.capability) for card in wanted.cards] == [("rtx3060", (8, 6))]
    assert [port.port for port in wanted.ports] == sorted(port.port for port in wanted.ports)
    assert set(wanted.memory_bytes) == {"gpu", "cpu_only"}
    assert wanted.memory_bytes["cpu_only"] > wanted.memory_bytes["gpu"] >= 0
    assert wanted.missing_weights
    assert wanted.missing_weights_bytes > 0


def test_a_question_that_takes_too_long_is_not_waited_for() -> None:
    release = threading.Event()
    begun_s = time.monotonic()
    try:
        answer = Question(release.wait, 0.05).answer()
    finally:
        release.set()

    assert isinstance(answer, Unseen)
    assert answer.reason == "no answer within 0.05 s"
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "/etc/x"), "/etc/x may not be read by this user"),
        (PermissionError(13, "Permission denied"), "it may not be read by this user"),
        (OSError(5, "Input/output error", "/dev/x"), "/dev/x: Input/output error"),
        (OSError(0, "it is gone"), "it is gone"),
        (OSError("strange"), "strange"),
    ],
)
def test_what_the_system_refuses_is_a_fact_that_is_not_known(error: OSError, reason: str) -> None:
    def ask() -> str:
        raise error

    answer = Question(ask, 5).answer()
    assert isinstance(answer, Unseen)
    assert answer.reason == reason


def test_a_problem_of_ours_keeps_its_code_and_its_remedy() -> None:
    answer = Question(lambda: find_llama_server("/nowhere/llama-server"), 5).answer()

    assert isinstance(answer, Unseen)
    assert answer.reason == "KI514 /nowhere/llama-server does not exist"
    assert "hosts.<name>.llama_server" in answer.fix


def test_a_fault_of_the_program_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        Question(lambda: 1 // 0, 5).answer()


def test_a_launcher_names_its_program(where: Target, tmp_path: Path) -> None:
    program = a_program(tmp_path, "exit 0")

    assert program_of(with_launcher(where, program).desired) == Program(str(program))
    assert program_of(with_launcher(where, program, str(tmp_path)).desired) == Program(str(program), str(tmp_path))
    assert program_of(with_launcher(where, program, "/gone").desired) == Program(str(program))
    assert program_of(None) is None
    assert program_of(Desired({}, where.layout, "")) is None
    with pytest.raises(ObstacleError):
        program_of(with_launcher(where, tmp_path / "none").desired)


def test_the_server_of_an_installation_is_run_and_looked_into(where: Target, tmp_path: Path) -> None:
    good = with_launcher(where, a_program(tmp_path, "echo 'version: 7 (abc)'"))
    found = see_server(good)
    assert found is not None
    assert found.version == "7 (abc)"
    assert isinstance(found.cuda, Unseen)

    bad = see_server(with_launcher(where, a_program(tmp_path, "exit 3")))
    assert bad is not None
    assert "ended with 3" in bad.trouble
    assert see_server(View(where, Wanted())) is None
    gone = see_server(with_launcher(where, tmp_path / "none"))
    assert gone is not None
    assert gone.trouble.startswith("KI514")


def test_a_server_that_its_unit_cannot_see_is_said(where: Target, tmp_path: Path) -> None:
    view = with_launcher(where, a_program(tmp_path, "exit 0"))
    hidden = see_server(View(where, Wanted(has_systemd=True), installed=view.installed))

    # pytest's folders are below /tmp, which PrivateTmp= closes.
    assert hidden is not None
    assert "KI519" in hidden.trouble or not str(tmp_path).startswith(("/tmp", "/var/tmp"))


def test_room_is_told_for_folders_that_are_not_there_yet(where: Target) -> None:
    room = see_room(View(where, Wanted()))

    assert room.weights_path == str(where.root / Layout().weights)
    assert room.weights_bytes > 0


def test_what_was_damaged_is_not_used(where: Target) -> None:
    view = View(where, Wanted(), installed=Unseen("routing.json was changed"), damage="routing.json was changed")

    assert see_units(view) == view.installed
    assert see_choice(view) == view.installed
    assert {check.code for check in examine(gather_for(view, Kernel()), ("units", "profile"))} == {"KI930"}


def test_while_an_apply_is_at_work_nothing_is_held_against_it(where: Target) -> None:
    assert see_generation(View(where, Wanted())) == Generation()
    where.root.mkdir()
    with apply_lock(where.root):
        assert see_generation(View(where, Wanted())) == Unseen("an apply is at work", "Wait until it has ended.")


def test_without_an_installation_nobody_is_asked(where: Target) -> None:
    view = View(where, Wanted())

    assert see_units(view) == Units()
    assert see_choice(view) == Choice()
    assert see_bus(view) is None
    assert see_router(view) is None


def test_lockouts_of_a_site_are_read(where: Target) -> None:
    lockouts = where.root / Layout().lockout_folder
    lockouts.mkdir(parents=True)
    (lockouts / "a.json").write_text("{")
    view = view_project(INCLUDES, where)

    choice = see_choice(view)
    assert isinstance(choice, Choice)
    assert choice.known == ("gpu", "cpu_only")
    assert [problem.code[:4] for problem in choice.problems] == ["KI90"]


def test_a_lockout_of_a_card_that_no_profile_uses_is_no_problem(where: Target) -> None:
    lockout = where.root / Layout().lockout_file
    lockout.parent.mkdir(parents=True)
    lockout.write_text('{"lockout_gpus": ["spare"], "until": "2099-01-30T22:00:00"}')
    table = a_routing_table().model_copy(update={"unused_cards": (RoutedCard(name="spare", uuid=None, pci=None),)})
    tree = {where.layout.routing: TextFile(table.model_dump_json())}

    choice = see_choice(View(where, Wanted(), installed=Desired(tree, where.layout, "")))
    assert isinstance(choice, Choice)
    assert choice.problems == ()


def test_a_table_that_is_none_is_passed_over(where: Target) -> None:
    tree = {where.layout.routing: TextFile("{}\n")}
    view = View(where, Wanted(), installed=Desired(tree, where.layout, ""))

    assert view.table is None
    assert see_bus(view) is None


def test_facts_are_gathered_for_a_file_that_is_not_there(where: Target, tmp_path: Path) -> None:
    facts = gather(tmp_path / "none.yaml", where)

    assert [problem.code for problem in facts.wanted.problems] == ["KI100"]
