"""Words in, words out: every value that models.yaml takes reaches llama-server through a real systemd unchanged."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from kloros_infra.compiler.systemd_syntax import env_lines
from kloros_infra.ir.layout import Layout
from tests.argument_batches import (
    RECORDER,
    SEEDS,
    UNIT,
    batch,
    recorded_variables,
    recorded_words,
    recorder_launcher,
    texts,
)
from tests.system.container import Container, scratch

pytestmark = pytest.mark.system

LAYOUT = Layout()
RECORDER_PATH = "/opt/recorder/llama-server"
ENV_UNIT = "kloros-variables.service"
ENV_FILE = "/etc/kloros-infra/env/variables.env"
FOLDERS = ("/opt/recorder", "/etc/kloros-infra", "/usr/lib/kloros-infra", LAYOUT.absolute(LAYOUT.weights))
START_S = 20.0


@pytest.fixture(scope="module")
def machine(systemd_container: Container) -> Iterator[Container]:
    """Install the recorder in place of llama-server, with weights that the unit finds."""
    programs = {
        RECORDER_PATH: RECORDER,
        LAYOUT.absolute(LAYOUT.program_path("llama-server")): recorder_launcher(RECORDER_PATH),
    }
    units = [LAYOUT.absolute(LAYOUT.override_path(unit)) for unit in (UNIT, ENV_UNIT)]
    with scratch(systemd_container, (UNIT, ENV_UNIT), (*units, *FOLDERS)) as container:
        for path, text in programs.items():
            container.write(path, text)
            container.run(["chmod", "755", path])
        container.write(LAYOUT.absolute(LAYOUT.weights_path("recorder", "1")), "GGUF")
        yield container


def read_proc(machine: Container, pid: str, file: str) -> bytes:
    """Read a file of a process inside, byte by byte as it is."""
    enter = ("nsenter", "-t", str(machine.leader), "-m", "-p", "--", "cat", f"/proc/{pid}/{file}")
    return subprocess.run(enter, capture_output=True, check=True).stdout


def start(machine: Container, unit: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Start a unit anew; give the words and variables of what it runs."""
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "stop", unit])
    machine.run(["systemctl", "reset-failed"])
    machine.run(["systemctl", "start", unit])
    deadline = time.monotonic() + START_S
    while True:
        pid = machine.run(["systemctl", "show", unit, "-p", "MainPID", "--value"]).stdout.strip()
        words = None if pid == "0" else recorded_words(read_proc(machine, pid, "cmdline"), RECORDER_PATH)
        if words is not None:
            return words, recorded_variables(read_proc(machine, pid, "environ"))
        log = machine.run(["journalctl", "-u", unit, "-n", "20", "--no-pager"], check=False).stdout
        assert time.monotonic() < deadline, f"{unit} did not start its program:\n{log}"
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline


@pytest.mark.parametrize("seed", SEEDS)
def test_arguments_reach_llama_server_as_they_were_written(machine: Container, seed: int) -> None:
    made = batch(seed, LAYOUT)
    machine.write(LAYOUT.absolute(LAYOUT.override_path(UNIT)), made.unit_text)
    machine.write(LAYOUT.absolute(made.env_path), made.env_text)

    words, variables = start(machine, UNIT)

    assert words == made.words
    assert {name: variables.get(name) for name in made.variables} == made.variables
    assert machine.run(["systemctl", "show", UNIT, "-p", "Description", "--value"]).stdout == f"{made.description}\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_variables_reach_a_service_as_they_were_written(machine: Container, seed: int) -> None:
    intended = {f"VALUE_{index:03}": text for index, text in enumerate(texts(seed))}
    machine.write(ENV_FILE, "".join(f"{line}\n" for line in env_lines(intended)))
    unit = f"[Service]\nType=exec\nEnvironmentFile={ENV_FILE}\nExecStart=:{RECORDER_PATH}\n"
    machine.write(LAYOUT.absolute(LAYOUT.override_path(ENV_UNIT)), unit)

    words, variables = start(machine, ENV_UNIT)

    assert words == ()
    assert {name: variables.get(name) for name in intended} == intended
