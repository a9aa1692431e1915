"""An instance that two profiles share goes on with its process when the profile changes, over a real model."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest

from kloros_infra.adapters.processes import SupervisorClient
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only

pytestmark = pytest.mark.real_model

SHARED, OWN = "shared", "own"
UNITS = ("llama@shared-first.service", "llama@own-first.service", "llama@own-second.service")


def twofold(document: dict[str, object]) -> None:
    """Have the one model twice under two profiles: once alike under both, once with another context."""
    (model,) = cast("list[dict[str, Any]]", document["models"])
    for name in ("name", "aliases"):
        del model[name]
    model |= {"context_tokens": 512, "preload": True}
    shared, own = free_ports(2)
    document["profiles"] = {"first": {"gpus": []}, "second": {"gpus": []}}
    document["models"] = [
        model | {"id": SHARED, "profiles": {"first": {"port": shared}, "second": {}}},
        model | {"id": OWN, "profiles": {"first": {"port": own}, "second": {"context_tokens": 256}}},
    ]
    document["purposes"] = {"fast": {"candidates": [SHARED], "default": True}}
    del document["personas"]


def pids(laptop: Laptop) -> dict[str, int]:
    """Give the processes of the instances that run."""
    states = SupervisorClient(laptop.root).states(UNITS)
    return {unit: state.main_pid for unit, state in states.items() if state.is_active}


def answer(laptop: Laptop, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
    url = f"http://127.0.0.1:{laptop.bridge_port()}/v1/chat/completions"
    return httpx.post(url, json=body, timeout=60).status_code


def test_a_change_of_the_profile_leaves_it_alone(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    laptop.edit(twofold)
    assert laptop.run("lock").returncode == 0
    done = laptop.apply("--profile", "first")
    assert done.returncode == 0, done.stderr
    before = pids(laptop)
    assert before.keys() == set(UNITS[:2])

    done = laptop.apply("--profile", "second")
    assert done.returncode == 0, done.stderr
    after = pids(laptop)
    assert after.keys() == {UNITS[0], UNITS[2]}
    assert after[UNITS[0]] == before[UNITS[0]]
    assert [answer(laptop, model) for model in (SHARED, OWN)] == [200, 200]
    planned = laptop.run("plan", "--root", laptop.root, "--profile", "second")
    assert planned.returncode == 0, planned.stdout
    shown = json.loads(kloros_infra("status", "--root", laptop.root, "--json").stdout)
    assert {one["unit"]: one["profile"] for one in shown["units"]}[UNITS[0]] == "first, second"
