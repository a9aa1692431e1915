"""What an administrator does by hand beside us, on a real systemd: seen, respected, and never undone unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.conftest import SMOLLM2, only
from tests.system.installed import INSIDE, SMOLLM2_UNIT, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.real_model]

DROP_IN = f"/etc/systemd/system/{SMOLLM2_UNIT}.d/more.conf"
FOREIGN = f"/etc/systemd/system/{SMOLLM2_UNIT}"


def ask_apply(machine: Machine, *words: str, check: bool = True) -> str:
    done = machine.kloros_infra("apply", "--file", f"{INSIDE}/models.yaml", "--yes", *words, check=check)
    return done.stdout + done.stderr


def plan(machine: Machine) -> str:
    return machine.kloros_infra("plan", "--file", f"{INSIDE}/models.yaml", "--drift", check=False).stdout


def state(machine: Machine) -> str:
    status: dict[str, Any] = json.loads(machine.kloros_infra("status", "--json").stdout)
    (found,) = (str(unit["state"]) for unit in status["units"] if unit["unit"] == SMOLLM2_UNIT)
    return found


def systemctl(machine: Machine, *words: str) -> None:
    machine.container.run(["systemctl", *words])


@pytest.fixture(autouse=True)
def applied(machine: Machine) -> None:
    """Begin each test with one model that serves."""
    machine.edit(only(SMOLLM2))
    ask_apply(machine, "--reset-pins")
    assert state(machine) == "ready"


def test_a_stop_by_hand_is_respected_until_pins_are_reset(machine: Machine) -> None:
    systemctl(machine, "stop", SMOLLM2_UNIT)
    assert state(machine) == "stopped by hand"
    assert "stopped by hand" in ask_apply(machine)
    assert not machine.is_active(SMOLLM2_UNIT)
    ask_apply(machine, "--reset-pins")
    assert machine.is_active(SMOLLM2_UNIT)


def test_a_start_by_hand_ends_a_stop_by_hand(machine: Machine) -> None:
    systemctl(machine, "stop", SMOLLM2_UNIT)
    systemctl(machine, "start", SMOLLM2_UNIT)
    wait_until(lambda: state(machine) == "ready", timeout_s=30)
    assert "stopped by hand" not in ask_apply(machine)


def test_a_mask_is_respected_and_taken_away_by_nobody_but_its_maker(machine: Machine) -> None:
    systemctl(machine, "mask", "--now", SMOLLM2_UNIT)
    assert state(machine) == "masked"
    assert "masked" in ask_apply(machine, "--reset-pins")
    assert machine.show(SMOLLM2_UNIT, "LoadState") == "masked"
    systemctl(machine, "unmask", SMOLLM2_UNIT)
    ask_apply(machine, "--reset-pins")
    assert machine.is_active(SMOLLM2_UNIT)


def test_a_drop_in_is_shown_and_stays(machine: Machine) -> None:
    pid = machine.main_pid(SMOLLM2_UNIT)
    machine.container.write(DROP_IN, "[Service]\nNice=5\n")
    systemctl(machine, "daemon-reload")
    assert DROP_IN in plan(machine)
    ask_apply(machine)
    assert machine.container.run(["cat", DROP_IN]).stdout == "[Service]\nNice=5\n"
    assert machine.main_pid(SMOLLM2_UNIT) == pid
    machine.container.run(["rm", "-r", DROP_IN.rpartition("/")[0]])
    systemctl(machine, "daemon-reload")
    assert DROP_IN not in plan(machine)


def test_a_process_that_was_started_with_other_values_is_shown(machine: Machine) -> None:
    machine.container.write(DROP_IN, "[Service]\nEnvironment=LLAMA_ARG_THREADS=1\n")
    systemctl(machine, "daemon-reload")
    systemctl(machine, "restart", SMOLLM2_UNIT)
    wait_until(lambda: state(machine) == "ready", timeout_s=30)
    assert "LLAMA_ARG_THREADS" in plan(machine)
    machine.container.run(["rm", "-r", DROP_IN.rpartition("/")[0]])
    systemctl(machine, "daemon-reload")
    systemctl(machine, "restart", SMOLLM2_UNIT)
    wait_until(lambda: state(machine) == "ready", timeout_s=30)


def test_a_foreign_unit_in_the_place_of_ours_is_refused_until_it_is_adopted(machine: Machine) -> None:
    machine.container.write(FOREIGN, "[Service]\nExecStart=/bin/sleep 300\n")
    systemctl(machine, "daemon-reload")
    assert "KI501" in ask_apply(machine, check=False)
    assert machine.container.run(["test", "-f", FOREIGN], check=False).returncode == 0
    machine.kloros_infra("adopt", FOREIGN, "--file", f"{INSIDE}/models.yaml", "--yes")
    ask_apply(machine)
    assert machine.container.run(["test", "-e", FOREIGN], check=False).returncode != 0
    assert state(machine) == "ready"


def test_the_log_and_the_events_come_from_the_journal(machine: Machine) -> None:
    assert machine.kloros_infra("logs", "smollm2-cpu_only", "-n", "3").stdout
    events = machine.kloros_infra("events", "--json", "-n", "1000").stdout.splitlines()
    sources = {json.loads(event)["source"] for event in events}
    assert "systemd" in sources
    assert "apply 1" in sources
