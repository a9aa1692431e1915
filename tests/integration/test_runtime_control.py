"""Models that the router starts and stops for an operator, below a root with the embedded supervisor."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, modelctl, only

pytestmark = pytest.mark.real_model


def smollm2(laptop: Laptop) -> dict[str, Any]:
    """Say how `status` shows the model."""
    status = json.loads(kloros_infra("status", "--root", laptop.root, "--json").stdout)
    (unit,) = (unit for unit in status["units"] if unit["name"] == "smollm2")
    found: dict[str, Any] = unit
    return found


def test_an_operator_stops_and_starts_a_model_that_requests_start_too(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    done = laptop.apply()
    assert done.returncode == 0, done.stderr
    shown = modelctl("ps", "--root", laptop.root)
    name, *_, until = re.split(r" {2,}", shown.stdout.splitlines()[1])
    assert (name, shown.stderr) == ("smollm2-cpu_only", "")
    assert "100% CPU" in shown.stdout

    stopped = modelctl("stop", "smollm2", "--root", laptop.root)
    assert "is stopped" in stopped.stdout, stopped.stderr
    assert len(modelctl("ps", "--root", laptop.root).stdout.splitlines()) == 1
    started = modelctl("start", "smollm2", "--root", laptop.root)
    assert "runs on port" in started.stdout, started.stderr
    unit = smollm2(laptop)
    assert (unit["state"], unit["stopped_for"]) == ("ready", None)
    assert (unit["until"], until) == ("always", "Forever")

    modelctl("stop", "smollm2", "--root", laptop.root)
    unit = smollm2(laptop)
    assert (unit["state"], unit["stopped_for"], unit["until"]) == ("stopped", "asked", "on demand")
    assert "stopped (by modelctl)" in kloros_infra("status", "--root", laptop.root).stdout
    again = laptop.apply()
    assert again.returncode == 0, again.stderr
    assert "No changes." in again.stdout
    plan = laptop.run("plan", "--root", laptop.root, "--drift").stdout
    assert "is stopped by the router, as an operator wanted; a request starts it" in plan
    assert "by hand" not in plan
    assert smollm2(laptop)["state"] == "stopped", "it is the router's to start"
    body = {"model": "smollm2", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"http://127.0.0.1:{laptop.bridge_port()}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200
