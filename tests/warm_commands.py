"""Run our commands, each in a process of its own that has the program's modules already.

Importing them takes longer than most commands do, and the tests run a thousand. So one process imports them and forks
for each command. Arguments, folder, environment and standard streams are the command's own, and its process ends as any
interpreter does. What an interpreter reads of its environment when it starts can't be given to a fork: where that
differs (`READ_ONCE`) a command gets a new interpreter. A library that does so is imported by the command (`LATER`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import NamedTuple

import kloros_infra.cli

PROGRAMS = {"kloros-infra": "kloros_infra.cli.program", "modelctl": "kloros_infra.cli.modelctl"}
READ_ONCE = ("LD_", "PYTHON", "LANG", "LC_")
"""How the names of variables begin that the loader or Python reads at the start."""
LATER = "huggingface_hub"
LONGEST_QUESTION = 2**20
READY = b"+"


def run_command(
    program: str,
    *words: str | Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run one of `PROGRAMS` without a terminal; folder and environment are this process's where none are given.

    Raises subprocess.TimeoutExpired, and ends the command, where it takes longer.
    """
    variables = dict(os.environ if environment is None else environment)
    question = _Question(program, tuple(map(str, words)), str(folder or Path.cwd()), variables)
    if _read_once(variables) == _warm().read_once:
        return _warm().run(question, timeout_s)
    code = f"import {PROGRAMS[program]} as program; program.main()"
    argv = [sys.executable, "-c", code, *question.words]
    return subprocess.run(
        argv,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


class _Question(NamedTuple):
    program: str
    words: tuple[str, ...]
    folder: str
    environment: dict[str, str]


def _read_once(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_ONCE)}


class _Warm:
    """The process that forks. It ends when its standard input does."""

    def __init__(self) -> None:
        self.read_once = _read_once(os.environ)
        self._folder = tempfile.TemporaryDirectory(prefix="kloros-warm-")
        self._address = str(Path(self._folder.name) / "commands")
        argv = [sys.executable, "-m", __name__, self._address]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(self._end)
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == READY

    def run(self, question: _Question, timeout_s: float) -> subprocess.CompletedProcess[str]:
        argv = [question.program, *question.words]
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            connection.settimeout(timeout_s)
            connection.connect(self._address)
            socket.send_fds(connection, [json.dumps(question).encode()], [out.fileno(), err.fileno()])
            try:
                status = connection.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired(argv, timeout_s) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read())
        assert status, f"{argv} was not carried out"
        return subprocess.CompletedProcess(argv, os.waitstatus_to_exitcode(int(status)), *texts)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


@cache
def _warm() -> _Warm:
    return _Warm()


def _serve(address: str) -> _Question | None:
    """Fork for each question until standard input ends; None then, and in a command's process its question."""
    _import_most()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer a question
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen(64)
        os.write(1, READY)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                return _answer(connection)
            connection.close()
    return None


def _import_most() -> None:
    """Import all that the command line is made of, but not what needs a library that comes later."""

    class Refuse(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == LATER:
                raise ModuleNotFoundError(name=name)

    refuse = Refuse()
    sys.meta_path.insert(0, refuse)
    for module in pkgutil.walk_packages(kloros_infra.cli.__path__, "kloros_infra.cli."):
        with suppress(ModuleNotFoundError):
            importlib.import_module(module.name)
    sys.meta_path.remove(refuse)


def _answer(connection: socket.socket) -> _Question:
    """Fork once more, for the command; say how it ended, or end it when nobody asks any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, streams, _, _ = socket.recv_fds(connection, LONGEST_QUESTION, 2)
    command = os.fork()
    if command == 0:
        connection.close()
        question = _Question(*json.loads(asked))
        _become(question, *streams)
        return question
    ended = os.pidfd_open(command)
    is_awaited = ended in select.select([ended, connection.fileno()], [], [])[0]
    if not is_awaited:
        os.kill(command, signal.SIGKILL)
    _, status = os.waitpid(command, 0)
    if is_awaited:
        connection.sendall(b"%d" % status)
    os._exit(0)


def _become(question: _Question, out: int, err: int) -> None:
    """Take a command's streams, folder, environment and arguments, as a new interpreter has them."""
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(question.folder)
    os.environ.clear()
    os.environ.update(question.environment)
    sys.argv = [question.program, *question.words]


if __name__ == "__main__":
    mine = _serve(sys.argv[1])
    if mine is not None:
        importlib.import_module(PROGRAMS[mine.program]).main()
