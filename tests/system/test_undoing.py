"""What does not hold on a real systemd: a failing gate is undone, a killed apply recovered, a boot survived."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kloros_infra.adapters.llama_server import HttpLlamaServers
from kloros_infra.ir.catalog import ModelKind
from tests.integration.conftest import GEMMA3, SMOLLM2
from tests.system.installed import GEMMA3_UNIT, INSIDE, PROGRAM, SMOLLM2_UNIT, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.real_model]

UNITS = (GEMMA3_UNIT, SMOLLM2_UNIT)
ALL = (*UNITS, "kloros-bus.service", "kloros-router.service", "kloros-profile.service", "kloros-llm.target")
# What an apply leaves of itself below /etc: files with their modes and contents, and links with what they lead to.
ETC = (
    "cd /etc && find kloros-infra systemd sysusers.d tmpfiles.d polkit-1 -printf '%p %M %l\\n'"
    " -type f -exec sha256sum {} +"
)
DOWN = "kloros-test-down.target"
WAIT_S = 30.0


@pytest.fixture(autouse=True)
def applied(machine: Machine) -> None:
    """Begin each test with both models serving."""
    machine.apply()
    assert all(machine.is_active(unit) for unit in UNITS)


def etc(machine: Machine) -> list[str]:
    return sorted(machine.container.run(["sh", "-c", ETC]).stdout.splitlines())


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.kloros_infra("status", "--json").stdout)
    return found


def answers(machine: Machine, name: str) -> bool:
    """Ask the server itself for a token, past the router."""
    return HttpLlamaServers().ask_token(f"http://127.0.0.1:{machine.port_of(name)}", ModelKind.CHAT, WAIT_S).is_good


def context_of(machine: Machine) -> str:
    """Say with which context SmolLM2's process was started."""
    environment = machine.container.run(["cat", f"/proc/{machine.main_pid(SMOLLM2_UNIT)}/environ"]).stdout
    return dict(entry.split("=", 1) for entry in environment.split("\0") if entry)["LLAMA_ARG_CTX_SIZE"]


def smaller(document: dict[str, Any]) -> None:
    """Have SmolLM2 restarted."""
    document["models"][0]["context_tokens"] = 1024


def without_pooling(document: dict[str, Any]) -> None:
    """Have a chat model asked for embeddings, which it has none to give of: its server runs, and fails the gate."""
    document["models"][0] |= {"kind": "embedding", "arguments": {"pooling": "none"}}
    document["personas"] = []
    document["purposes"] = {"embed": {"candidates": [SMOLLM2]}, "text": {"candidates": [GEMMA3], "default": True}}


def test_a_gate_that_is_not_passed_goes_back_and_the_old_server_answers(machine: Machine) -> None:
    before, generation, other = etc(machine), machine.current(), machine.main_pid(GEMMA3_UNIT)
    with machine.edited(without_pooling):
        refused = machine.try_to_apply()
    assert refused.returncode == 3, refused.stderr
    assert "KI577" in refused.stderr
    assert "KI585" in refused.stderr
    assert machine.current() == generation
    assert etc(machine) == before
    assert answers(machine, SMOLLM2)
    assert machine.main_pid(GEMMA3_UNIT) == other
    assert "No changes." in machine.apply()


@contextmanager
def killed_at(machine: Machine, step: str) -> Iterator[None]:
    """Kill an apply with SIGKILL once it says that it begins a step."""
    words = f"echo $$ >&2; exec {PROGRAM} apply --file {INSIDE}/models.yaml --yes"
    enter = ["nsenter", "-t", str(machine.container.leader), "-m", "-p", "-u", "-i", "--", "sh", "-c", words]
    with subprocess.Popen(enter, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as apply:
        assert apply.stderr is not None
        pid = next(apply.stderr).strip()
        next(line for line in apply.stderr if step in line)
        machine.container.run(["kill", "-9", pid])
    yield


@pytest.mark.parametrize(
    ("step", "side"), [("verify generation", "had not switched"), ("wait for llama@smollm2", "made its generation")]
)
def test_a_killed_apply_is_told_by_status_and_led_to_one_side(machine: Machine, step: str, side: str) -> None:
    before, other = etc(machine), machine.main_pid(GEMMA3_UNIT)
    with machine.edited(smaller):
        with killed_at(machine, step):
            assert status(machine)["interrupted"]
        assert side in machine.kloros_infra("recover", "--yes").stdout
        assert not status(machine)["interrupted"]
        is_completed = side == "made its generation"
        assert context_of(machine) == ("1024" if is_completed else "2048")
        assert (etc(machine) == before) is not is_completed
        assert answers(machine, SMOLLM2)
        assert machine.main_pid(GEMMA3_UNIT) == other


def test_after_a_boot_everything_runs_and_the_boot_is_noted(machine: Machine) -> None:
    generation = machine.current()
    # As a machine that goes down and comes up: all services end, and /run is emptied of what is ours.
    machine.container.write(f"/run/systemd/system/{DOWN}", "[Unit]\nRequires=basic.target\nAllowIsolate=yes\n")
    machine.container.run(["systemctl", "daemon-reload"])
    machine.container.run(["systemctl", "isolate", DOWN])
    wait_until(lambda: not any(machine.show(unit, "ActiveState") != "inactive" for unit in ALL), timeout_s=WAIT_S)
    machine.container.run(["rm", "-r", "/run/kloros", f"/run/systemd/system/{DOWN}"])
    machine.container.run(["systemctl", "daemon-reload"])
    machine.container.run(["systemctl", "isolate", "multi-user.target"])
    machine.container.run(["systemctl", "stop", DOWN], check=False)
    wait_until(lambda: all(machine.is_active(unit) for unit in UNITS), timeout_s=WAIT_S)
    wait_until(lambda: answers(machine, SMOLLM2), timeout_s=WAIT_S)
    # The mark counts with the boot's identity, which here is another for a unit that has a /proc of its own.
    assert machine.container.run(["cat", "/run/kloros/booted"]).stdout.split()[0] == generation
    assert "No changes." in machine.apply()
