"""Ask a llama-server what a model needs on each device: it says so before it loads any weight, and is ended then."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kloros_infra.adapters.programs import Program
from kloros_infra.diagnostics import Diagnostic, quoted_log
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.placement.load_report import LOG_VERBOSITY
from kloros_infra.placement.memory_breakdown import parse_breakdown

PIECE_BYTES = 64 * 1024
LOG_LINES = 8
LONGEST_TABLE_LINES = 64
"""More rows than any machine has devices."""
# Measured: 0.1 s for a 7B, 0.3 s for 125 GB; a cold disk and a driver that starts up take longer.
TIMEOUT_S = 60.0


class LlamaServerMemory:
    """Starts one program as often as it is asked."""

    def __init__(self, program: Program, *, timeout_s: float = TIMEOUT_S) -> None:
        self._program = program
        self._timeout_s = timeout_s

    def measured(
        self, weights: Path, settings: Mapping[str, str], words: Sequence[str] = ()
    ) -> tuple[MeasuredLoad, ...]:
        """Give what each device is to hold with these LLAMA_ARG_* variables; raise UnreachableError (KI430).

        `words` of a command line outrank them. Projector and draft model are not counted. The weights are looked at
        and not read.
        """
        lines: list[str] = []
        with self._running(weights, settings, words) as process:
            for line in _lines(process.stdout, time.monotonic() + self._timeout_s):
                lines.append(line)
                if found := parse_breakdown(lines[-LONGEST_TABLE_LINES:]):
                    return found
        raise UnreachableError([self._said_nothing(weights, lines)])

    @contextmanager
    def _running(
        self, weights: Path, settings: Mapping[str, str], words: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        own = {
            "LLAMA_ARG_FIT": "on",
            "LLAMA_ARG_HOST": "127.0.0.1",
            "LLAMA_ARG_LOG_VERBOSITY": str(LOG_VERBOSITY),
            "LLAMA_ARG_MODEL": str(weights),
            # Any port that is free.
            "LLAMA_ARG_PORT": "0",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
        libraries = filter(None, (self._program.library_path, os.environ.get("LD_LIBRARY_PATH")))
        environment = {**inherited, "LD_LIBRARY_PATH": ":".join(libraries), **settings, **own}
        try:
            # llama-server may end before its own words about this are written (llama.cpp, common/log.cpp: a thread
            # writes them).
            weights.stat()
            process = subprocess.Popen(
                [*_ended_with_us(), self._program.path, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise UnreachableError([self._said_nothing(weights, [error.strerror or str(error)])]) from error
        with process:
            try:
                yield process
            finally:
                process.kill()

    def _said_nothing(self, weights: Path, lines: list[str]) -> Diagnostic:
        return Diagnostic(
            code="KI430",
            summary="llama-server does not say what it needs",
            detail=f"{self._program.path} was asked what {weights} needs and did not say it: it ended, or "
            f"{self._timeout_s:g} s were over.{quoted_log(deque(lines, maxlen=LOG_LINES))}",
            hint="Its last lines tell why. Builds from 2025-11 on can be asked (`llama-server --help` has --fit).",
            address="program.llama-server",
        )


def _ended_with_us() -> tuple[str, ...]:
    """Give the words that let a process end with the one that started it, where setpriv(1) is there.

    However that one ends: a server that is silent, as one that waits for another host, would stay for ever.
    """
    program = shutil.which("setpriv")
    return () if program is None else (program, "--pdeathsig", "KILL", "--")


def _lines(output: IO[bytes] | None, deadline: float) -> Iterator[str]:
    """Give what a process writes, line by line, until it ends or the time is up."""
    rest = b""
    if output is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            piece = os.read(output.fileno(), PIECE_BYTES)
            if not piece:
                break
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
