"""An installation of before there were generations: unit files straight in /etc/systemd/system, taken over by apply."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.conftest import INSIDE_CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import Container
from tests.tiny_site import ONE, TWO

pytestmark = pytest.mark.system

PYTHON = ("env", f"PYTHONPATH={INSIDE_CHECKOUT}:{INSIDE_SITE_PACKAGES}", "/usr/bin/python3", "-B")
SWITCHED = "remove etc/systemd/system/kloros-a.service"
NOT_SWITCHED = "switch to generation 1"


@pytest.fixture
def machine(systemd_container: Container) -> Iterator[Container]:
    told = run(systemd_container, "install")
    assert told["versions"] == ONE
    assert told["is_intact"]
    yield systemd_container
    run(systemd_container, "destroy")


def run(machine: Container, *words: str) -> dict[str, Any]:
    done = machine.run([*PYTHON, "-m", "tests.system.former", *words])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def refused(machine: Container, *words: str) -> list[str]:
    """Give the codes of what is refused or fails."""
    done = machine.run([*PYTHON, "-m", "tests.system.former", *words], check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1].split()


def fragment(machine: Container, unit: str) -> str:
    return machine.run(["systemctl", "show", "-P", "FragmentPath", unit]).stdout.strip()


def assert_taken_over(machine: Container, told: dict[str, Any]) -> None:
    assert told == {"versions": TWO, "steps": 0, "former": [], "is_intact": False}
    for unit in ONE:
        assert fragment(machine, unit).startswith("/run/systemd/generator/")
        assert machine.run(["systemctl", "show", "-P", "NeedDaemonReload", unit]).stdout == "no\n"
    assert machine.run(["test", "-e", "/usr/lib/kloros-infra"], check=False).returncode != 0
    left = machine.run(["find", "/etc/systemd/system", "-name", "kloros-[ab].service", "-o", "-name", "kloros-llm*"])
    assert left.stdout == ""


def test_a_former_installation_is_taken_over(machine: Container) -> None:
    assert fragment(machine, "kloros-a.service") == "/etc/systemd/system/kloros-a.service"
    assert refused(machine, "recover") == ["KI589"]
    assert_taken_over(machine, run(machine, "apply"))


def test_a_take_over_that_fails_leaves_the_former_installation_as_it_was(machine: Container) -> None:
    assert refused(machine, "apply-broken")[-1] == "KI585"
    told = run(machine, "look")
    assert told["versions"] == ONE
    assert told["is_intact"]
    assert fragment(machine, "kloros-a.service") == "/etc/systemd/system/kloros-a.service"


@pytest.mark.parametrize("step", [NOT_SWITCHED, SWITCHED])
def test_a_take_over_that_is_killed_is_carried_on(machine: Container, step: str) -> None:
    killed = machine.run([*PYTHON, "-m", "tests.system.former", "apply-killed", step], check=False)
    assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if step == SWITCHED:
        assert_taken_over(machine, run(machine, "recover"))
    else:
        assert refused(machine, "recover") == ["KI589"]
        assert_taken_over(machine, run(machine, "apply"))
