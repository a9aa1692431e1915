"""The router's way to start and stop units: its contract against a real systemd, and its rights by polkit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_host import ROUTER_USER, USERS
from kloros_infra.compiler.emit_polkit import emit_polkit
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.system.conftest import INSIDE_CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import Container, scratch

pytestmark = pytest.mark.system

PYTHON_PATH = f"PYTHONPATH={INSIDE_CHECKOUT}:{INSIDE_SITE_PACKAGES}"
MODEL = "llama@small-cpu_only.service"
OTHER = "kloros-other.service"
RULE, ACCOUNTS = (Layout().absolute(path) for path in (Layout().polkit, Layout().sysusers))
SLEEPS = "[Service]\nType=exec\nExecStart=/bin/sleep 300\n"
# What the router does with units, and what it must not be able to do; each line says what came of it.
SCRIPT = f"""
import asyncio, json
from kloros_infra.adapters.systemd_units import SystemdUnits
from kloros_infra.errors import UnitError

async def outcome(job):
    try:
        await job
    except UnitError as error:
        return [error.problem.code, error.problem.detail]
    return ["done", ""]

async def main():
    units, found = SystemdUnits(), {{}}
    for name, unit in (("model", {MODEL!r}), ("other", {OTHER!r}), ("bus", "dbus.service")):
        found[name] = [await outcome(job(unit)) for job in (units.start, units.restart, units.stop)]
    found["up"] = (await units.states([{OTHER!r}]))[{OTHER!r}].is_up
    print(json.dumps(found))

asyncio.run(main())
"""


def test_systemd_keeps_the_contract_of_unit_control(systemd_container: Container) -> None:
    pytest_here = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "systemd"]
    command = ["/usr/bin/python3", "-B", *pytest_here, f"{INSIDE_CHECKOUT}/tests/contract/test_unit_control.py"]
    settings = ("KLOROS_TEST_SYSTEMD=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", PYTHON_PATH)
    done = systemd_container.run(["env", "-C", INSIDE_CHECKOUT, *settings, *command])
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 9


@pytest.fixture
def machine(systemd_container: Container) -> Iterator[Container]:
    """Lend a container with a unit of a model and another one that runs."""
    files = [f"/run/systemd/system/{unit}" for unit in (MODEL, OTHER)]
    with scratch(systemd_container, (MODEL, OTHER), (RULE, ACCOUNTS, *files)) as container:
        for file in files:
            container.write(file, SLEEPS)
        container.run(["systemctl", "daemon-reload"])
        container.run(["systemctl", "start", OTHER])
        # At boot systemd does it. dbus-daemon does not know users that are made up for a run.
        text = rendering(read_templates(), Layout()).text("sysusers.conf.j2", users=USERS)
        container.write(ACCOUNTS, text)
        container.run(["systemd-sysusers", ACCOUNTS])
        yield container


def as_router(container: Container) -> dict[str, list[list[str]]]:
    """Do it as the router's user, as its unit has it."""
    router = ("-p", f"User={ROUTER_USER}", "-p", "DynamicUser=yes", "-p", "PrivateUsers=yes", "-E", PYTHON_PATH)
    command = ["systemd-run", "--pipe", "--wait", "-q", *router, "/usr/bin/python3", "-B", "-c", SCRIPT]
    found: dict[str, list[list[str]]] = json.loads(container.run(command).stdout)
    return found


def test_the_router_may_start_and_stop_models_and_nothing_else(machine: Container) -> None:
    ((path, rule),) = emit_polkit(rendering(read_templates(), Layout()))
    assert isinstance(rule, TextFile)
    before = as_router(machine)
    assert [code for code, _ in before["model"]] == ["KI842"] * 3
    assert "polkit has no rule" in before["model"][0][1]
    machine.write(Layout().absolute(path), rule.text)
    machine.run(["chmod", "644", RULE])
    found = as_router(machine)
    assert [code for code, _ in found["model"]] == ["done"] * 3
    assert [code for code, _ in (*found["other"], *found["bus"])] == ["KI842"] * 6
    assert found["up"]
