"""The whole loop on a real systemd: apply, ask from outside, apply again, crash a server, remove a model, destroy."""

from __future__ import annotations

import pytest

from tests.integration.conftest import GEMMA3, SMOLLM2, only
from tests.system.installed import GEMMA3_UNIT, SMOLLM2_UNIT, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.real_model]


def test_the_whole_loop(machine: Machine) -> None:
    assert "Apply complete!" in machine.apply()
    assert machine.units("llama@*") == {GEMMA3_UNIT: "active", SMOLLM2_UNIT: "active"}
    assert machine.container.run(["systemctl", "is-active", "llama@*"]).stdout.split() == ["active", "active"]
    # A generator brings it in, at each boot and reload.
    assert machine.show("kloros-llm.target", "UnitFileState") == "enabled-runtime"

    reply = machine.ask("What is the capital of France?", purpose="fast", max_tokens=16, temperature=0)
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
        lambda: machine.ask("Paris is", model=GEMMA3, max_tokens=4, temperature=0)["success"],
        timeout_s=30,
    )
    assert machine.main_pid(SMOLLM2_UNIT) == pids[SMOLLM2_UNIT]

    machine.edit(only(SMOLLM2))
    assert "to remove" in machine.apply()
    assert machine.units("llama@*") == {SMOLLM2_UNIT: "active"}
    assert machine.main_pid(SMOLLM2_UNIT) == pids[SMOLLM2_UNIT]
    assert machine.ask("Say hello.", max_tokens=8, temperature=0)["success"]
    refused = machine.ask("Paris is", model=GEMMA3, max_tokens=4, temperature=0)
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
    wait_until(lambda: machine.ask("Say hello.", max_tokens=4, temperature=0)["success"], timeout_s=30)
    assert "No changes." in machine.apply()


def test_destroy_leaves_no_unit_and_no_process(machine: Machine) -> None:
    machine.apply()
    machine.kloros_infra("destroy", "--yes")
    # Until it next collects garbage, systemd lists a unit that is gone as not found.
    listed = machine.units("llama@*")
    assert "active" not in listed.values()
    assert {machine.show(unit, "LoadState") for unit in listed} <= {"not-found"}
    # A slice is systemd's own grouping: it goes when systemd next collects garbage.
    ours = {unit: state for unit, state in machine.units("kloros-*").items() if not unit.endswith(".slice")}
    assert "active" not in ours.values(), ours
    left = machine.container.run(["find", "/etc/systemd/system", "/etc/kloros-infra", "-name", "*llama*"], check=False)
    assert left.stdout == ""
    machine.apply()
    assert machine.is_active(SMOLLM2_UNIT)
