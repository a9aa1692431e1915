"""Let a real llama-server load a file as it was placed, and read what it says of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from kloros_infra.adapters.programs import find_llama_server
from kloros_infra.ir.load_report import LoadReport
from kloros_infra.placement.load_report import LOG_VERBOSITY, parse_load_report
from tests.memory_matrix import LLAMA_SERVER

LOAD_S = 120.0


class DoesNotLoadError(AssertionError):
    """llama-server ended, or was not ready in time; the message is the end of its log."""


def loaded(file: Path, settings: Mapping[str, str], folder: Path, *, load_s: float = LOAD_S) -> LoadReport:
    """Start llama-server with these variables, and give its report once the model is loaded."""
    program = find_llama_server(LLAMA_SERVER)
    log = folder / "llama-server.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
    own = {
        "LLAMA_ARG_LOG_VERBOSITY": str(LOG_VERBOSITY),
        "LLAMA_ARG_HOST": "127.0.0.1",
        "LLAMA_ARG_PORT": "0",
        "LLAMA_ARG_MODEL": str(file),
        "LD_LIBRARY_PATH": program.library_path or "",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [program.path, "--no-warmup"], env={**inherited, **settings, **own}, stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + load_s
        while process.poll() is None and time.monotonic() < deadline:
            report = parse_load_report(log.read_text(errors="replace").splitlines())
            if report.is_complete:
                return report
            time.sleep(0.1)  # the pause between two polls of a condition with a deadline
        raise DoesNotLoadError(log.read_text(errors="replace")[-3000:])
    finally:
        process.kill()
        process.wait()
