"""`kloros-infra doctor` where systemd runs the units: what follows the cards, and what an ordinary user sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import AGENT_UNIT, RECONCILE_PATH
from tests.integration.conftest import SMOLLM2, only
from tests.system.installed import INSIDE, PROGRAM, Machine

pytestmark = [pytest.mark.system, pytest.mark.real_model]

CARD = {"host": "laptop", "uuid": "GPU-5a2b3c4d-0000-1111-2222-333344445555", "name": "NVIDIA GeForce RTX 3060"}
RULES = f"/{Layout().udev_rules}"
INSTALLED = ("systemd", "weights", "models_yaml", "generation", "units", "triggers", "profile", "lockouts", "ports")


def with_a_card(document: dict[str, Any]) -> None:
    only(SMOLLM2)(document)
    document["gpus"] = {"rtx3060": CARD}
    document["profiles"] = {"mid": {"gpus": ["rtx3060"]}, **document["profiles"]}


@pytest.fixture(scope="module")
def applied(machine: Machine) -> Iterator[Machine]:
    machine.edit(with_a_card)
    machine.apply()
    yield machine
    machine.kloros_infra("destroy", "--yes", "--with-weights")


def doctor(machine: Machine, *words: str) -> dict[str, list[str]]:
    """Map each check to the codes that it gives."""
    named = [word for name in INSTALLED for word in ("--only", name)]
    done = machine.container.run([*words, PROGRAM, "doctor", "--json", *named, *file_of(words)], check=False)
    found: dict[str, list[str]] = {}
    for check in json.loads(done.stdout)["checks"]:
        found.setdefault(check["name"], []).extend([check["code"]] if check["code"] else [])
    return found


def file_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """Name models.yaml for root alone: another user looks at what is installed."""
    return () if words else ("--file", f"{INSIDE}/models.yaml")


def test_what_is_installed_is_well_until_somebody_stops_it(applied: Machine) -> None:
    well: dict[str, list[str]] = {name: [] for name in INSTALLED}
    assert doctor(applied) == well

    rules = applied.container.run(["cat", RULES]).stdout
    applied.container.run(["systemctl", "stop", RECONCILE_PATH, AGENT_UNIT])
    applied.container.run(["rm", RULES])
    unwell = doctor(applied)
    applied.container.write(RULES, rules)
    applied.container.run(["systemctl", "start", RECONCILE_PATH, AGENT_UNIT])

    assert unwell == {**well, "generation": ["KI969"], "triggers": ["KI973", "KI972", "KI978"]}
    assert doctor(applied) == well


def test_an_ordinary_user_sees_what_he_may(applied: Machine) -> None:
    seen = doctor(applied, "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")

    assert {code for codes in seen.values() for code in codes} <= {"KI930"}
    assert seen["units"] == seen["profile"] == []
