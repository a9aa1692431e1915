"""Whose processes are ours, asked of systemd: the contract of `agent.ports.Processes`."""

from __future__ import annotations

import re

import pytest

from tests.system.conftest import INSIDE_CHECKOUT
from tests.system.container import Container
from tests.system.test_systemd_units import PYTHON_PATH

pytestmark = pytest.mark.system


def test_systemd_names_the_processes_of_our_units(systemd_container: Container) -> None:
    pytest_here = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "systemd"]
    command = ["/usr/bin/python3", "-B", *pytest_here, f"{INSIDE_CHECKOUT}/tests/contract/test_unit_processes.py"]
    settings = ("KLOROS_TEST_SYSTEMD=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", PYTHON_PATH)
    done = systemd_container.run(["env", "-C", INSIDE_CHECKOUT, *settings, *command])
    assert re.search(r"\b1 passed", done.stdout), done.stdout
