"""Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end; uvloop has no wheels for every platform."""
    if find_spec("uvloop") is None:
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - absent on some platforms

    uvloop.run(main)
