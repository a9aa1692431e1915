"""The whole loop on a real systemd: apply, ask from outside, apply again, remove a model, crash a server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LAPTOP = CHECKOUT / "examples" / "laptop"
PROGRAM = "/opt/kloros-infra/bin/kloros-infra"

pytestmark = [pytest.mark.system, pytest.mark.real_model]


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Poll until a condition holds; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not hold within {timeout_s} s"
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(CHECKOUT)], check=True)
    return next(folder.glob("*.whl"))
