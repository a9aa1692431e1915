"""The whole loop on a real systemd: apply, ask from outside, apply again, crash a server, remove a model, destroy."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kloros_infra.adapters.chembus import ChemBusClient
from kloros_infra.ir.routing import RoutedBus
from tests.integration.conftest import GEMMA3, SMOLLM2, on_free_ports, only
from tests.system.conftest import CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import PROJECT, Container, install_project

LAPTOP = CHECKOUT / "examples" / "laptop"
PROGRAM = f"{PROJECT}/bin/kloros-infra"
INSIDE = "/etc/kloros"
SMOLLM2_UNIT = "llama@smollm2-cpu_only.service"
GEMMA3_UNIT = "llama@gemma3-cpu_only.service"

pytestmark = [pytest.mark.system, pytest.mark.real_model]


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Poll until a condition holds; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"did not hold within {timeout_s} s"
        time.sleep(0.1)  # the pause between two polls of a condition with a deadline


class Machine:
    """The container with kloros-infra and the laptop example installed."""

    def __init__(self, container: Container, folder: Path) -> None:
        self.container = container
        self.file = folder / "models.yaml"

    def put(self) -> None:
        """Bring models.yaml to where the machine keeps it."""
        self.container.write(f"{INSIDE}/models.yaml", self.file.read_text())

    def edit(self, change: Callable[[dict[str, object]], object]) -> None:
        """Change models.yaml on the machine."""
        document = yaml.safe_load(self.file.read_text())
        change(document)
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))
        self.put()

    def kloros_infra(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.container.run([PROGRAM, *words], check=check)

    def apply(self) -> str:
        return self.kloros_infra("apply", "--file", f"{INSIDE}/models.yaml", "--yes").stdout

    def show(self, unit: str, key: str) -> str:
        return self.container.run(["systemctl", "show", unit, "-p", key, "--value"]).stdout.strip()

    def main_pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def is_active(self, unit: str) -> bool:
        return self.container.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"

    def units(self, pattern: str) -> dict[str, str]:
        """Map loaded units to their states."""
        listed = self.container.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern]).stdout
        rows = (line.split() for line in listed.splitlines())
        return {row[0]: row[2] for row in rows}

    def ask(self, prompt: str, **wishes: Any) -> dict[str, Any]:
        """Ask from outside the container, over the loopback network that it shares."""
        bus = yaml.safe_load(self.file.read_text())["bus"]

        async def ask() -> dict[str, Any]:
            async with ChemBusClient(RoutedBus(xsub=bus["xsub"], xpub=bus["xpub"])) as client:
                return await client.ask(prompt, timeout_s=60, **wishes)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def machine(systemd_container: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("loop")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(CHECKOUT)], check=True)
    install_project(systemd_container, next(folder.glob("*.whl")), INSIDE_SITE_PACKAGES)
    shutil.copy(LAPTOP / "models.yaml", folder)
    one = Machine(systemd_container, folder)
    one.edit(on_free_ports)
    for source in (LAPTOP / "models.lock.yaml", *sorted((LAPTOP / "models.lock").iterdir())):
        systemd_container.write(f"{INSIDE}/{source.relative_to(LAPTOP)}", source.read_text())
    yield one
    one.kloros_infra("destroy", "--yes")


def test_the_whole_loop(machine: Machine) -> None:
    assert "Apply complete!" in machine.apply()
    assert machine.units("llama@*") == {GEMMA3_UNIT: "active", SMOLLM2_UNIT: "active"}
    assert machine.container.run(["systemctl", "is-active", "llama@*"]).stdout.split() == ["active", "active"]
    assert machine.show("kloros-llm.target", "UnitFileState") == "enabled"

    reply = machine.ask("What is the capital of France?", purpose="fast", max_tokens=16)
    assert reply["success"], reply
    assert reply["response"]
    assert reply["metadata"]["model_id"] == SMOLLM2
    assert reply["metadata"]["profile"] == "cpu_only"
    assert reply["metadata"]["tokens_per_sec"] > 0

    pids = {unit: machine.main_pid(unit) for unit in (SMOLLM2_UNIT, GEMMA3_UNIT)}
    assert "No changes." in machine.apply()
    assert {unit: machine.main_pid(unit) for unit in pids} == pids

    machine.container.run(["kill", "-9", str(pids[GEMMA3_UNIT])])
    wait_until(lambda: machine.main_pid(GEMMA3_UNIT) not in (0, pids[GEMMA3_UNIT]), timeout_s=30)
    wait_until(
        lambda: machine.ask("Paris is", model=GEMMA3, max_tokens=4)["success"],
        timeout_s=30,
    )
    assert machine.main_pid(SMOLLM2_UNIT) == pids[SMOLLM2_UNIT]

    machine.edit(only(SMOLLM2))
    assert "1 stop" in machine.apply()
    assert machine.units("llama@*") == {SMOLLM2_UNIT: "active"}
    assert machine.main_pid(SMOLLM2_UNIT) == pids[SMOLLM2_UNIT]
    assert machine.ask("Say hello.", max_tokens=8)["success"]
    refused = machine.ask("Paris is", model=GEMMA3, max_tokens=4)
    assert not refused["success"]
    assert refused["error"]["code"] == "KI801"


def test_the_environment_reaches_llama_server_as_written(machine: Machine) -> None:
    machine.apply()
    env_file = machine.show(SMOLLM2_UNIT, "EnvironmentFiles").split()[0]
    text = machine.container.run(["cat", env_file]).stdout
    intended = {line.split("=", 1)[0]: line.split("=", 1)[1][1:-1] for line in text.splitlines() if "=" in line}
    assert intended
    got = machine.container.run(["cat", f"/proc/{machine.main_pid(SMOLLM2_UNIT)}/environ"]).stdout
    environment = dict(entry.split("=", 1) for entry in got.split("\0") if entry)
    assert {key: environment.get(key) for key in intended} == intended


def test_the_target_that_boot_starts_brings_everything_up(machine: Machine) -> None:
    machine.apply()
    machine.container.run(["systemctl", "stop", "kloros-llm.target"])
    wait_until(lambda: "active" not in machine.units("llama@*").values(), timeout_s=30)
    # /run is empty after a boot.
    machine.container.run(["rm", "/run/kloros/gpu_profile"])
    machine.container.run(["systemctl", "start", "kloros-llm.target"])
    wait_until(lambda: machine.is_active(SMOLLM2_UNIT), timeout_s=30)
    assert machine.container.run(["cat", "/run/kloros/gpu_profile"]).stdout == "cpu_only\n"
    wait_until(lambda: machine.ask("Say hello.", max_tokens=4)["success"], timeout_s=30)
    assert "No changes." in machine.apply()


def test_destroy_leaves_no_unit_and_no_process(machine: Machine) -> None:
    machine.apply()
    machine.kloros_infra("destroy", "--yes")
    # Until it next collects garbage, systemd lists a unit that is gone as not found.
    listed = machine.units("llama@*")
    assert "active" not in listed.values()
    states = {machine.container.run(["systemctl", "show", "-P", "LoadState", unit]).stdout for unit in listed}
    assert states <= {"not-found\n"}
    # A slice is systemd's own grouping: it goes when systemd next collects garbage.
    ours = {unit: state for unit, state in machine.units("kloros-*").items() if not unit.endswith(".slice")}
    assert "active" not in ours.values(), ours
    left = machine.container.run(["find", "/etc/systemd/system", "/etc/kloros-infra", "-name", "*llama*"], check=False)
    assert left.stdout == ""
    machine.apply()
    assert machine.is_active(SMOLLM2_UNIT)
