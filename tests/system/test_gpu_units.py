"""Units that follow the cards, on a real systemd: all of them up, none ever deaf, and nothing of them left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import (
    AGENT_UNIT,
    DIRTY_PATH,
    DIRTY_TIMER,
    DIRTY_UNIT,
    FOLLOWERS,
    RECONCILE_PATH,
    RECONCILE_UNIT,
)
from tests.integration.conftest import SMOLLM2, only
from tests.system.everything import everything
from tests.system.installed import SMOLLM2_UNIT, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.real_model]

FLAG = f"/{Layout().dirty_file}"
SOON_S = 15.0
MANY_TOUCHES = f"for number in $(seq 300); do touch {FLAG} /etc/kloros/gpu_lockout; sleep 0.003; done"


def with_a_card(document: dict[str, Any]) -> None:
    """Declare a card that is not there: the profile without cards stays active."""
    only(SMOLLM2)(document)
    card = {"host": "laptop", "uuid": "GPU-5a2b3c4d-0000-1111-2222-333344445555", "name": "NVIDIA GeForce RTX 3060"}
    document["gpus"] = {"rtx3060": card}
    document["profiles"] = {"mid": {"gpus": ["rtx3060"]}, **document["profiles"]}


@pytest.fixture(scope="module")
def applied(machine: Machine) -> Iterator[Machine]:
    """Apply a site with a card; whatever it adds to the machine goes with it."""
    before = everything(machine.container)
    machine.edit(with_a_card)
    machine.apply()
    yield machine
    machine.kloros_infra("destroy", "--yes", "--with-weights")
    assert everything(machine.container) ^ before == set()


@pytest.fixture
def without_agent(applied: Machine) -> Iterator[Machine]:
    applied.container.run(["systemctl", "stop", AGENT_UNIT])
    yield applied
    applied.container.run(["systemctl", "start", AGENT_UNIT])


def starts(machine: Machine, unit: str) -> str:
    """Name the last start of a unit."""
    return machine.show(unit, "InvocationID")


def has_looked_after(machine: Machine, *words: str) -> None:
    """Do something, and wait until the cards are looked at for it, and the look is over."""
    before = starts(machine, RECONCILE_UNIT)
    machine.container.run(words)
    wait_until(lambda: starts(machine, RECONCILE_UNIT) not in ("", before), timeout_s=SOON_S)
    wait_until(lambda: machine.show(RECONCILE_UNIT, "ActiveState") == "inactive", timeout_s=SOON_S)


def has_flag(machine: Machine) -> bool:
    return machine.container.run(["test", "-e", FLAG], check=False).returncode == 0


def test_all_of_them_are_up_and_nothing_is_left_to_do(applied: Machine) -> None:
    assert {unit: applied.is_active(unit) for unit in FOLLOWERS} == dict.fromkeys(FOLLOWERS, True)
    assert applied.show(DIRTY_TIMER, "SubState") == "waiting"
    assert applied.container.run(["test", "-d", f"/{Layout().lockout_folder}"], check=False).returncode == 0
    assert "No changes." in applied.apply()


def test_the_agent_may_do_all_that_it_has_to(applied: Machine) -> None:
    layout = Layout()
    # As after a boot: it remembers nothing.
    applied.container.run(["rm", f"/{layout.profile_file}", f"/{layout.topology_file}", f"/{layout.cards_file}"])
    applied.container.run(["systemctl", "stop", "kloros-profile-cpu_only.target"])
    applied.container.run(["systemctl", "restart", AGENT_UNIT])
    assert applied.container.run(["cat", f"/{layout.profile_file}"]).stdout == "cpu_only\n"
    wait_until(lambda: applied.is_active("kloros-profile-cpu_only.target"), timeout_s=SOON_S)
    assert applied.is_active(SMOLLM2_UNIT)
    assert "No changes." in applied.apply()


def told(machine: Machine) -> dict[str, str]:
    """Say what status says of those units."""
    units = json.loads(machine.kloros_infra("status", "--json").stdout)["units"]
    return {unit["unit"]: unit["state"] for unit in units if unit["unit"] in FOLLOWERS}


def test_what_does_not_wait_for_events_is_told_and_started_again(applied: Machine) -> None:
    assert told(applied) == {AGENT_UNIT: "ready"}
    applied.container.run(["systemctl", "stop", RECONCILE_PATH])
    assert told(applied) == {AGENT_UNIT: "ready", RECONCILE_PATH: "stopped"}
    assert "1 to change (1 start)" in applied.apply()
    assert applied.is_active(RECONCILE_PATH)
    assert told(applied) == {AGENT_UNIT: "ready"}


def test_without_the_agent_the_flag_alone_has_the_cards_looked_at(without_agent: Machine) -> None:
    has_looked_after(without_agent, "touch", FLAG)
    assert without_agent.show(RECONCILE_UNIT, "Result") == "success"
    assert not has_flag(without_agent)


def test_a_lockout_and_the_timer_raise_the_flag(without_agent: Machine) -> None:
    has_looked_after(without_agent, "touch", "/etc/kloros/gpu_pin")
    has_looked_after(without_agent, "systemctl", "start", DIRTY_UNIT)
    assert without_agent.show(DIRTY_TIMER, "Unit") == DIRTY_UNIT
    assert without_agent.show(DIRTY_TIMER, "NextElapseUSecMonotonic") not in ("", "infinity")
    without_agent.container.run(["rm", "/etc/kloros/gpu_pin"])


@pytest.mark.parametrize("is_followed", [True, False], ids=["agent", "path units alone"])
def test_hundreds_of_changes_at_once_make_nothing_deaf(applied: Machine, *, is_followed: bool) -> None:
    if not is_followed:
        applied.container.run(["systemctl", "stop", AGENT_UNIT])
    applied.container.run(["sh", "-c", MANY_TOUCHES])
    wait_until(lambda: not has_flag(applied), timeout_s=SOON_S)
    units = [RECONCILE_PATH, RECONCILE_UNIT, DIRTY_PATH, DIRTY_UNIT, AGENT_UNIT]
    assert applied.container.run(["systemctl", "is-failed", *units], check=False).returncode != 0
    assert applied.is_active(RECONCILE_PATH)
    assert applied.is_active(DIRTY_PATH)
    applied.container.run(["touch", FLAG])
    wait_until(lambda: not has_flag(applied), timeout_s=SOON_S)
    applied.container.run(["rm", "-f", "/etc/kloros/gpu_lockout"])
    applied.container.run(["systemctl", "start", AGENT_UNIT])
