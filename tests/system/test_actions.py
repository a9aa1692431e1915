"""What a plan does to units of a real systemd, action by action, and what it leaves alone meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import httpx
import pytest

from tests.free_ports import free_ports
from tests.integration.conftest import GEMMA3, SMOLLM2
from tests.system.installed import GEMMA3_UNIT, INSIDE, SMOLLM2_UNIT, Machine

pytestmark = [pytest.mark.system, pytest.mark.real_model]

UNITS = (GEMMA3_UNIT, SMOLLM2_UNIT)
OTHER = "other"
OTHER_UNIT = f"llama@smollm2-{OTHER}.service"
TOKENS = 400


def model(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["models"] if one["id"] == name)
    return found


def slow_gemma3(document: dict[str, Any]) -> None:
    """Have an answer of gemma3 last longer than an apply does."""
    model(document, GEMMA3)["arguments"] = {"threads": 1}


@pytest.fixture(autouse=True)
def applied(machine: Machine) -> None:
    """Begin each test with both models serving."""
    machine.edit(slow_gemma3)
    machine.apply()
    assert all(machine.is_active(unit) for unit in UNITS)


def plan(machine: Machine, *words: str) -> dict[str, str]:
    """Map addresses that a plan changes to what happens to their units."""
    done = machine.kloros_infra("plan", "--file", f"{INSIDE}/models.yaml", "--json", *words, check=False)
    assert done.returncode in (0, 2), done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    changes = [row for row in rows if row["type"] == "planned_change"]
    return {row["address"]: row["unit_action"] for row in changes if row["unit_action"]}


def pids(machine: Machine) -> dict[str, int]:
    found = {unit: machine.main_pid(unit) for unit in UNITS}
    assert all(found.values())
    return found


@contextmanager
def streaming(machine: Machine) -> Iterator[Future[tuple[float, list[dict[str, Any]]]]]:
    """Ask gemma3 through the router; begin once its answer has begun, and give its monotonic end and all of it."""
    begun = Event()

    def read() -> tuple[float, list[dict[str, Any]]]:
        body = {"model": GEMMA3, "prompt": "Once upon a time", "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
        url = f"{machine.bridge_url()}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line.removeprefix("data: "))
                begun.set()
        *events, end = [line for line in lines if line]
        assert end == "[DONE]"
        return time.monotonic(), [json.loads(event) for event in events]

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(read)
        assert begun.wait(30)
        yield answer


def test_a_restart_lets_an_answer_of_another_model_go_on_to_its_end(machine: Machine) -> None:
    before, generation = pids(machine), machine.current()
    with machine.edited(lambda document: model(document, SMOLLM2).update(context_tokens=1024)):
        assert plan(machine) == {"instance.smollm2-cpu_only": "restart"}
        with streaming(machine) as answer:
            machine.apply()
            ended_s, events = answer.result(timeout=120)
    show = ("systemctl", "show", "--value", "-p", "ExecMainStartTimestampMonotonic", SMOLLM2_UNIT)
    assert ended_s > int(machine.container.run(show).stdout) / 1e6, "the answer was too short to say anything"
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == TOKENS
    after = pids(machine)
    assert after[GEMMA3_UNIT] == before[GEMMA3_UNIT]
    assert after[SMOLLM2_UNIT] != before[SMOLLM2_UNIT]
    environment = machine.container.run(["cat", f"/proc/{after[SMOLLM2_UNIT]}/environ"]).stdout.split("\0")
    assert "LLAMA_ARG_CTX_SIZE=1024" in environment

    # Back by a rollback, which is shown first and starts nothing else either.
    told = machine.kloros_infra("rollback", "--yes").stdout
    assert f"Going to generation {generation}." in told
    assert "instance.smollm2-cpu_only must be restarted" in told
    assert machine.current() == generation
    assert pids(machine)[GEMMA3_UNIT] == before[GEMMA3_UNIT]
    assert "No changes." in machine.apply()


def test_a_live_change_reaches_running_units(machine: Machine) -> None:
    before = pids(machine)
    assert machine.show(SMOLLM2_UNIT, "CPUWeight") == "[not set]"
    with machine.edited(lambda document: document.update(sandbox={"cpu_weight": 50})):
        assert plan(machine) == dict.fromkeys(("instance.gemma3-cpu_only", "instance.smollm2-cpu_only"), "change live")
        machine.apply()
        assert {machine.show(unit, "CPUWeight") for unit in UNITS} == {"50"}
        assert plan(machine) == {}
    assert pids(machine) == before


def test_a_changed_description_does_nothing_to_its_unit(machine: Machine) -> None:
    before = pids(machine)
    with machine.edited(lambda document: model(document, SMOLLM2).update(display_name="Small")):
        assert plan(machine) == {"instance.smollm2-cpu_only": "nothing"}
        machine.apply()
        assert "Small" in machine.show(SMOLLM2_UNIT, "Description")
    assert pids(machine) == before


def with_another_profile(document: dict[str, Any]) -> None:
    """Have SmolLM2 also in a profile that is active only when it is asked for."""
    document["profiles"][OTHER] = {"gpus": []}
    model(document, SMOLLM2)["profiles"][OTHER] = {"port": free_ports(1)[0]}


def test_another_profile_reloads_what_it_relates_to_and_stops_what_it_has_not(machine: Machine) -> None:
    before = pids(machine)
    with machine.edited(with_another_profile):
        actions = plan(machine)
        assert actions["instance.smollm2-cpu_only"] == actions["target.kloros-profile-cpu_only"] == "reload"
        assert "instance.gemma3-cpu_only" not in actions
        machine.apply()
        # Created, and not started.
        assert machine.show(OTHER_UNIT, "LoadState") == "loaded"
        assert not machine.is_active(OTHER_UNIT)
        assert machine.show(SMOLLM2_UNIT, "Conflicts").split().count(OTHER_UNIT) == 1
        assert pids(machine) == before

        actions = plan(machine, "--profile", OTHER)
        assert actions["instance.gemma3-cpu_only"] == actions["instance.smollm2-cpu_only"] == "stop"
        assert actions[f"instance.smollm2-{OTHER}"] == "start"
        machine.apply("--profile", OTHER)
        assert {unit: machine.is_active(unit) for unit in (*UNITS, OTHER_UNIT)} == {
            GEMMA3_UNIT: False,
            SMOLLM2_UNIT: False,
            OTHER_UNIT: True,
        }
        assert machine.ask("Say hello.", max_tokens=4, temperature=0)["success"]
