"""From a bare machine with systemd and back. Its name has it run first: nothing else has been done there by then."""

from __future__ import annotations

import pytest

from tests.integration.conftest import SMOLLM2, only
from tests.system.everything import everything
from tests.system.installed import Machine

pytestmark = [pytest.mark.system, pytest.mark.real_model]


def test_destroy_leaves_the_machine_as_it_was_byte_for_byte(machine: Machine, bare: frozenset[str]) -> None:
    machine.edit(only(SMOLLM2))
    machine.apply()
    with machine.edited(lambda document: document["models"][0].update(context_tokens=1024)):
        machine.apply()
    assert len(everything(machine.container) - bare) > 50
    machine.kloros_infra("destroy", "--yes", "--with-weights")
    assert everything(machine.container) ^ bare == set()
