"""Tools that a test needs: where one is missing the test is left out, but never in CI."""

from __future__ import annotations

import os

import pytest


def need(is_there: bool, what: str) -> None:
    """Skip the test that asks, or fail it in CI, where everything is installed."""
    if is_there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}, and CI must have it")
    pytest.skip(f"needs {what}")
