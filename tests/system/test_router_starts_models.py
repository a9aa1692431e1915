"""The router in its own sandbox starts and stops models through systemd, and operators tell it to."""

from __future__ import annotations

import pytest

from tests.system.container import PROJECT
from tests.system.installed import SMOLLM2_UNIT, Machine

pytestmark = [pytest.mark.system, pytest.mark.real_model]

MODELCTL = f"{PROJECT}/bin/modelctl"
WEIGHTS = "/var/lib/llama-models/smollm2-135m-instruct-q4_1"


def test_operators_stop_and_start_a_model_and_others_do_not(machine: Machine) -> None:
    machine.apply()
    run = machine.container.run
    assert "is stopped" in run([MODELCTL, "stop", "smollm2"]).stdout
    assert not machine.is_active(SMOLLM2_UNIT)
    assert "runs on port" in run([MODELCTL, "start", "smollm2"]).stdout
    assert machine.is_active(SMOLLM2_UNIT)

    assert "smollm2-cpu_only" in run([MODELCTL, "ps"]).stdout
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    refused = run([*as_nobody, MODELCTL, "stop", "smollm2"], check=False)
    assert "KI847" in refused.stderr
    assert machine.is_active(SMOLLM2_UNIT)


def test_why_a_model_does_not_start_is_read_from_the_journal(machine: Machine) -> None:
    machine.apply()
    run = machine.container.run
    run([MODELCTL, "stop", "smollm2"])
    run(["mv", WEIGHTS, f"{WEIGHTS}-away"])
    try:
        failed = run([MODELCTL, "start", "smollm2"], check=False)
    finally:
        run(["mv", f"{WEIGHTS}-away", WEIGHTS])
    assert "KI845" in failed.stderr
    assert "Starting requested but asserts failed" in failed.stderr
    assert "runs on port" in run([MODELCTL, "start", "smollm2"]).stdout
