"""An apply while the router serves: each leaves the other its work, over a real model and the embedded supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.ir.observed import UnitState
from tests.integration.conftest import SMOLLM2, Laptop, only

pytestmark = pytest.mark.real_model

UNIT = "llama@smollm2-cpu_only.service"
WAIT_S = 20.0
LOOKED_AT_S = 3.0


def a_model_that(**settings: object) -> Callable[[dict[str, object]], None]:
    """Make an edit of the one model."""

    def change(document: dict[str, object]) -> None:
        models = document["models"]
        assert isinstance(models, list)
        models[0].update(settings)

    return change


def preloaded(is_preloaded: bool) -> Callable[[dict[str, object]], None]:
    def change(document: dict[str, object]) -> None:
        models = document["models"]
        assert isinstance(models, list)
        models[0]["profiles"]["cpu_only"]["preload"] = is_preloaded

    return change


def unit(laptop: Laptop) -> UnitState:
    return SupervisorClient(laptop.root).states((UNIT,))[UNIT]


def answered(laptop: Laptop) -> int:
    body = {"model": "smollm2", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
    url = f"http://127.0.0.1:{laptop.bridge_port()}/v1/chat/completions"
    return httpx.post(url, json=body, timeout=60).status_code


def stays(laptop: Laptop, condition: Callable[[UnitState], bool]) -> None:
    """Hold for as long as the router would take to act against it."""
    deadline = time.monotonic() + LOOKED_AT_S
    while time.monotonic() < deadline:
        assert condition(unit(laptop)), unit(laptop)
        time.sleep(0.1)  # the pause between two looks at what must hold all the time


def installed(laptop: Laptop, *edits: Callable[[dict[str, object]], object]) -> int:
    """Apply, have the model serve, and give its process."""
    laptop.edit(only(SMOLLM2))
    for edit in edits:
        laptop.edit(edit)
    done = laptop.apply()
    assert done.returncode == 0, done.stderr
    assert answered(laptop) == 200
    return unit(laptop).main_pid


@pytest.mark.parametrize("is_preloaded", [True, False])
def test_apply_restarts_what_is_defined_otherwise_and_the_router_takes_it_over(
    laptop: Laptop, is_preloaded: bool
) -> None:
    pid = installed(laptop, preloaded(is_preloaded))
    for tokens in (1024, 1536):
        laptop.edit(a_model_that(context_tokens=tokens))
        done = laptop.apply()
        assert done.returncode == 0, done.stdout + done.stderr
        after = unit(laptop).main_pid
        assert after not in (0, pid)
        stays(laptop, lambda state, after=after: state.main_pid == after)  # type: ignore[misc]  # a default binds it now
        assert answered(laptop) == 200
        assert unit(laptop).main_pid == after
        pid = after


def test_what_is_never_restarted_for_a_change_goes_on(laptop: Laptop) -> None:
    pid = installed(laptop, a_model_that(on_change="never"))
    laptop.edit(a_model_that(context_tokens=1024))
    done = laptop.apply()
    assert done.returncode == 0, done.stdout + done.stderr
    stays(laptop, lambda state: state.main_pid == pid)
    assert answered(laptop) == 200
    assert unit(laptop).main_pid == pid


def test_what_an_operator_stops_by_the_service_manager_stays_stopped_until_it_is_asked(laptop: Laptop) -> None:
    installed(laptop)
    SupervisorClient(laptop.root).stop(UNIT)
    stays(laptop, lambda state: state.main_pid == 0)
    time.sleep(LOOKED_AT_S)  # the router looks every five seconds
    stays(laptop, lambda state: state.main_pid == 0)
    assert answered(laptop) == 200
