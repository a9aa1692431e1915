"""`apply --confirm` on a real systemd: its watcher outlives its caller and a reload, and a reboot confirms nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.conftest import SMOLLM2, only
from tests.system.installed import INSIDE, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.real_model]

WAITING = "/var/lib/kloros-infra/confirm.json"
BOOT_UNIT = "kloros-unconfirmed.service"
WATCHER = "Undo an apply that is not confirmed"


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.kloros_infra("status", "--json").stdout)
    return found


def renamed(name: str) -> Any:
    """Make an edit that calls the model something else: another generation, and no other process."""

    def change(document: dict[str, object]) -> None:
        only(SMOLLM2)(document)
        models = document["models"]
        assert isinstance(models, list)
        models[0]["display_name"] = name

    return change


def apply_to_be_confirmed(machine: Machine, name: str, within: str) -> int:
    """Apply; give the generation that it is undone to."""
    machine.edit(renamed("before"))
    machine.apply()
    before = status(machine)["generation"]
    assert isinstance(before, int)
    machine.edit(renamed(name))
    machine.kloros_infra("apply", "--file", f"{INSIDE}/models.yaml", "--yes", "--confirm", within)
    waiting = status(machine)
    assert waiting["generation"] != before
    assert waiting["unconfirmed"]["previous"] == before
    return before


def watchers(machine: Machine) -> list[str]:
    """List the transient units that watch."""
    listed = machine.container.run(["systemctl", "list-units", "--plain", "--no-legend", "run-*.service"]).stdout
    return [line.split()[0] for line in listed.splitlines() if WATCHER in line]


def test_what_is_not_confirmed_is_undone_across_a_reload(machine: Machine) -> None:
    before = apply_to_be_confirmed(machine, "reload", "8s")
    (watcher,) = watchers(machine)
    assert machine.show(watcher, "Slice") == "system.slice"
    machine.container.run(["systemctl", "daemon-reload"])
    assert watchers(machine) == [watcher]
    wait_until(lambda: status(machine)["generation"] == before, timeout_s=60)
    wait_until(lambda: status(machine)["unconfirmed"] is None, timeout_s=60)
    wait_until(lambda: not watchers(machine), timeout_s=60)


def test_what_is_confirmed_stays(machine: Machine) -> None:
    before = apply_to_be_confirmed(machine, "stays", "60s")
    machine.kloros_infra("confirm")
    wait_until(lambda: not watchers(machine), timeout_s=60)
    assert status(machine)["generation"] != before


def test_a_boot_undoes_what_was_not_confirmed_before(machine: Machine) -> None:
    before = apply_to_be_confirmed(machine, "boot", "600s")
    for watcher in watchers(machine):
        machine.container.run(["systemctl", "kill", "--signal=KILL", watcher])
    # As after a boot: the note is of another one, unit files are read anew, and their target starts what it wants.
    written = json.loads(machine.container.run(["cat", WAITING]).stdout)
    machine.container.write(WAITING, json.dumps({**written, "boot_id": "another"}))
    machine.container.run(["systemctl", "daemon-reload"])
    assert BOOT_UNIT in machine.show("multi-user.target", "Wants").split()
    machine.container.run(["systemctl", "start", BOOT_UNIT])
    wait_until(lambda: status(machine)["generation"] == before, timeout_s=60)
    wait_until(lambda: status(machine)["unconfirmed"] is None, timeout_s=60)
    found = machine.container.run(["find", "/etc/systemd/system", "-name", BOOT_UNIT]).stdout
    assert found == ""
