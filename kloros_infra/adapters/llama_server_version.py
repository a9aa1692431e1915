"""Whether a llama-server runs, and which one it is, by its own word."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kloros_infra.adapters.bounded_program import Bounds, TooMuchOutputError, run_bounded
from kloros_infra.adapters.programs import Program

TIMEOUT_S = 20.0
MOST_BYTES = 2**20
# "version: 6912 (a1b2c3d)" (llama.cpp, common/arg.cpp, --version); it goes to standard error.
_VERSION = re.compile(r"^version: (?P<version>\S+(?: \([0-9a-f]+\))?)", re.MULTILINE)


def ask_version(program: Program, *, timeout_s: float = TIMEOUT_S) -> str:
    """Run `--version` and give what it says; raise OSError, with why in words, where that does not work.

    It is shown no card, so that none is woken.
    """
    libraries = {} if program.library_path is None else {"LD_LIBRARY_PATH": program.library_path}
    environment = {"PATH": os.defpath, "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "", **libraries}
    bounds = Bounds(timeout_s, MOST_BYTES)
    try:
        done = run_bounded((program.path, "--version"), folder=Path("/"), environment=environment, bounds=bounds)
    except TimeoutError as error:
        raise OSError(0, f"{program.path} --version did not end within {timeout_s:g} s") from error
    except TooMuchOutputError as error:
        raise OSError(0, f"{program.path} --version printed without end") from error
    text = (done.output + b"\n" + done.log).decode(errors="replace")
    found = _VERSION.search(text)
    if done.status != 0 or found is None:
        raise OSError(0, f"{program.path} --version ended with {done.status}: {_last_line(text)}")
    return found["version"]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else "without a word"
