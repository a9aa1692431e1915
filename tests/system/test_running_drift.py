"""A unit's process under a real systemd is held against its files: as intended, and after somebody's hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.system.conftest import INSIDE_CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import Container, scratch

pytestmark = pytest.mark.system

PYTHON = ("env", f"PYTHONPATH={INSIDE_CHECKOUT}:{INSIDE_SITE_PACKAGES}", "/usr/bin/python3", "-B")
UNIT = "kloros-drift.service"
UNIT_FILE, ENV_FILE = f"/run/systemd/system/{UNIT}", "/run/kloros-drift.env"
LAUNCHER = "/run/kloros-drift-launcher"
INTENDED_UNIT = f"""\
[Service]
Type=exec
DynamicUser=yes
EnvironmentFile={ENV_FILE}
ExecStart=:/bin/sh {LAUNCHER} --alias "it's 100%% \\"so\\" \\\\d $HOME" -c 300
"""
INTENDED_ENV = """\
CUDA_VISIBLE_DEVICES='GPU-1'
LLAMA_ARG_CTX_SIZE='2048'
LLAMA_ARG_OVERRIDE_TENSOR="^blk[.]1='CPU' \\"\\$x\\""
"""
# As launchers do, it becomes the program; its name and first words are its own.
WAITS = '#!/bin/sh\nexec /usr/bin/python3 -c "import signal; signal.pause()" "$@"\n'
LOOK = """
import json, sys
from kloros_infra.adapters.running_processes import ProcProcesses
from kloros_infra.adapters.systemd import Systemd
from kloros_infra.planner.running_drift import STEERING_PREFIXES, intended_process, running_drift
from kloros_infra.ir.unit_keys import env_keys
unit, unit_text, env_text = json.load(sys.stdin)
pid = Systemd().states((unit,))[unit].main_pid
intended = intended_process(unit_text, env_keys(env_text))
process = ProcProcesses().running(pid, names=intended.environment, prefixes=STEERING_PREFIXES)
drift = [[change.key, change.before, change.after] for change in running_drift(intended, process)]
print(json.dumps([process.cgroup, drift]))
"""


def look(machine: Container) -> tuple[str, list[list[str | None]]]:
    """Hold the unit's process against the intended files, inside."""
    told = json.dumps([UNIT, INTENDED_UNIT.replace(f"/bin/sh {LAUNCHER}", LAUNCHER), INTENDED_ENV])
    cgroup, drift = json.loads(machine.run([*PYTHON, "-c", LOOK], text=told).stdout)
    return cgroup, drift


def restart(machine: Container, *, unit: str = INTENDED_UNIT, env: str = INTENDED_ENV) -> None:
    """Write the files and restart, as a hand would."""
    for path, text in ((UNIT_FILE, unit), (ENV_FILE, env), (LAUNCHER, WAITS)):
        machine.write(path, text)
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "reset-failed", UNIT], check=False)
    machine.run(["systemctl", "restart", UNIT])


@pytest.fixture(scope="module")
def borrowed(systemd_container: Container) -> Iterator[Container]:
    with scratch(systemd_container, (UNIT,), (UNIT_FILE, ENV_FILE, LAUNCHER)) as container:
        yield container


@pytest.fixture
def machine(borrowed: Container) -> Container:
    restart(borrowed)
    return borrowed


def test_a_unit_that_was_started_from_its_files_runs_as_intended(machine: Container) -> None:
    cgroup, drift = look(machine)
    assert drift == []
    assert cgroup.endswith(UNIT)


def test_files_that_were_edited_without_a_restart_are_no_drift_of_the_process(machine: Container) -> None:
    machine.write(ENV_FILE, INTENDED_ENV.replace("2048", "4096"))
    assert look(machine)[1] == []


def test_an_edited_env_file_and_a_restart_by_hand_show(machine: Container) -> None:
    restart(machine, env=INTENDED_ENV.replace("2048", "4096") + "LLAMA_ARG_THREADS=3\nLLAMA_API_KEY=s3cret\n")
    assert look(machine)[1] == [["LLAMA_ARG_CTX_SIZE", "4096", "2048"], ["LLAMA_ARG_THREADS", "3", None]]


def test_an_edited_command_and_a_restart_by_hand_show(machine: Container) -> None:
    restart(machine, unit=INTENDED_UNIT.replace("-c 300", "-c 301"))
    ((key, before, after),) = look(machine)[1]
    assert key == "arguments"
    assert str(before).endswith("-c 301")
    assert str(after).endswith("-c 300")


def test_the_journal_keeps_the_contract_of_start_logs(systemd_container: Container) -> None:
    pytest_here = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "systemd"]
    command = [*PYTHON, *pytest_here, f"{INSIDE_CHECKOUT}/tests/contract/test_start_log.py"]
    settings = ("KLOROS_TEST_SYSTEMD=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1")
    done = systemd_container.run(["env", "-C", INSIDE_CHECKOUT, *settings, *command])
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 2
