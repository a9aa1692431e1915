"""An apply while the router serves: each leaves the other its work, over a real model and the embedded supervisor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.ir.observed import UnitState
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, a_laptop, only

pytestmark = pytest.mark.real_model

PRELOADED, ASKED, NEVER = "preloaded", "asked", "never"
"""One that apply starts, one that a request starts, and one that no change restarts."""
SETTINGS: dict[str, dict[str, object]] = {PRELOADED: {}, ASKED: {"preload": False}, NEVER: {"on_change": "never"}}
WAIT_S = 20.0
LOOKED_AT_S = 2.0
"""Three failed health checks and the first pause before a restart take the router less."""


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """Install one model under three names, and have all of them serve."""
    with a_laptop(tmp_path_factory.mktemp("beside")) as one:
        one.edit(only(SMOLLM2))
        one.edit(threefold)
        locked = one.run("lock")
        assert locked.returncode == 0, locked.stderr
        done = one.apply()
        assert done.returncode == 0, done.stderr
        yield one


def models_of(document: dict[str, object]) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", document["models"])


def threefold(document: dict[str, object]) -> None:
    """Have the one model three times, each with its settings."""
    (model,) = models_of(document)
    for name in ("name", "aliases"):
        del model[name]
    document["models"] = [
        model | settings | {"id": id, "context_tokens": 512, "profiles": {"cpu_only": {"port": port}}}
        for (id, settings), port in zip(SETTINGS.items(), free_ports(len(SETTINGS)), strict=True)
    ]
    document["purposes"] = {"fast": {"candidates": [PRELOADED], "default": True}}
    del document["personas"]


def units(laptop: Laptop) -> dict[str, UnitState]:
    """Give the state of each model's unit."""
    names = {f"llama@{model}-cpu_only.service": model for model in SETTINGS}
    return {names[unit]: state for unit, state in SupervisorClient(laptop.root).states(tuple(names)).items()}


def pids(laptop: Laptop) -> dict[str, int]:
    return {model: state.main_pid for model, state in units(laptop).items()}


def answered(laptop: Laptop, *models: str) -> bool:
    """Say whether each model answers."""
    url = f"http://127.0.0.1:{laptop.bridge_port()}/v1/chat/completions"
    bodies = (
        {"model": one, "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
        for one in models
    )
    return all(httpx.post(url, json=body, timeout=60).status_code == httpx.codes.OK for body in bodies)


def router_says(laptop: Laptop, model: str) -> str:
    """Give a runtime's status as the router has it."""
    health = httpx.get(f"http://127.0.0.1:{laptop.bridge_port()}/health", timeout=10).json()
    return next(str(one["status"]) for one in health["runtimes"] if one["profile"] == f"{model}-cpu_only")


def stays(condition: Callable[[], bool]) -> None:
    """Hold for as long as the router would take to act against it."""
    deadline = time.monotonic() + LOOKED_AT_S
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(0.1)  # the pause between two looks at what must hold all the time


def test_apply_restarts_what_is_defined_otherwise_and_the_router_takes_it_over(laptop: Laptop) -> None:
    assert answered(laptop, *SETTINGS)
    before = pids(laptop)
    for tokens in (640, 768):

        def wider(document: dict[str, object], tokens: int = tokens) -> None:
            for model in models_of(document):
                model["context_tokens"] = tokens

        laptop.edit(wider)
        done = laptop.apply()
        assert done.returncode == 0, done.stdout + done.stderr
        after = pids(laptop)
        assert 0 not in after.values()
        assert {model for model, pid in after.items() if pid != before[model]} == {PRELOADED, ASKED}
        stays(lambda after=after: pids(laptop) == after)  # type: ignore[misc]  # a default binds it now
        assert answered(laptop, *SETTINGS)
        assert pids(laptop) == after
        before = after


def test_what_an_operator_stops_by_the_service_manager_stays_stopped_until_it_is_asked(laptop: Laptop) -> None:
    assert answered(laptop, *SETTINGS)
    for model in (PRELOADED, ASKED):
        SupervisorClient(laptop.root).stop(f"llama@{model}-cpu_only.service")
    deadline = time.monotonic() + WAIT_S
    while {router_says(laptop, model) for model in (PRELOADED, ASKED)} != {"stopped"}:
        assert time.monotonic() < deadline, "the router looks every five seconds"
        assert (pids(laptop)[PRELOADED], pids(laptop)[ASKED]) == (0, 0)
        time.sleep(0.1)  # the pause between two polls of a condition with a deadline
    stays(lambda: (pids(laptop)[PRELOADED], pids(laptop)[ASKED]) == (0, 0))
    assert answered(laptop, PRELOADED, ASKED)
