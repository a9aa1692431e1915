"""Run a program for what it prints: within a time and a size, and so that nothing of it is left afterwards."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 2**16


class TooMuchOutputError(Exception):
    """A program printed more than it may."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a program may run, how much it may print, and how much of the end of its stderr is kept."""

    timeout_s: float
    output_bytes: int
    log_bytes: int = 2**16


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended; a status below zero is a signal."""

    status: int
    output: bytes
    log: bytes


def run_bounded(words: Sequence[str], *, folder: Path, environment: Mapping[str, str], bounds: Bounds) -> Finished:
    """Run a program to its end; whatever it started ends with it.

    Raises TimeoutError or TooMuchOutputError, and another OSError where it cannot be run.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    with process:
        try:
            reading = _Reading(process, bounds)
            reading.read_until_it_ends()
            _end_group(process)
            reading.read_what_is_left()
        finally:
            _end_group(process)
    return Finished(process.returncode, bytes(reading.output), bytes(reading.log))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and those that it started; until it is waited for, its number is nobody else's (wait(2))."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Reading:
    """Takes in what a program writes."""

    def __init__(self, process: subprocess.Popen[bytes], bounds: Bounds) -> None:
        self.output, self.log = bytearray(), bytearray()
        self._pid, self._bounds = process.pid, bounds
        self._deadline = time.monotonic() + bounds.timeout_s
        pipes = ((process.stdout, self.output), (process.stderr, self.log))
        self._open = {pipe.fileno(): taken for pipe, taken in pipes if pipe is not None}
        for pipe in self._open:
            os.set_blocking(pipe, False)

    def read_until_it_ends(self) -> None:
        """Read until the program itself has ended: those that it started may hold the pipes for longer."""
        with self._watched() as (selector, handle):
            while True:
                ready = {key.fd for key, _ in selector.select(max(0.0, self._deadline - time.monotonic()))}
                if handle in ready:
                    return
                if time.monotonic() >= self._deadline:
                    raise TimeoutError
                for pipe in ready:
                    if not self._take(pipe):
                        selector.unregister(pipe)

    def read_what_is_left(self) -> None:
        """Read what lies in the pipes, now that nobody of the group writes any more."""
        for pipe in self._open:
            with suppress(BlockingIOError):
                while self._take(pipe):
                    pass

    @contextmanager
    def _watched(self) -> Iterator[tuple[selectors.BaseSelector, int]]:
        """Watch both pipes, and a handle that can be read once the program has ended (pidfd_open(2))."""
        handle = os.pidfd_open(self._pid)
        try:
            with selectors.DefaultSelector() as selector:
                for number in (handle, *self._open):
                    selector.register(number, selectors.EVENT_READ)
                yield selector, handle
        finally:
            os.close(handle)

    def _take(self, pipe: int) -> bool:
        """Read one piece; say whether there was one."""
        piece = os.read(pipe, READ_BYTES)
        self._open[pipe] += piece
        del self.log[: -self._bounds.log_bytes]
        if len(self.output) > self._bounds.output_bytes:
            raise TooMuchOutputError
        return bool(piece)
