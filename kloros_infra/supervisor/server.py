"""The embedded supervisor: runs the units of one root and takes requests on a socket until it is told to end."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import assert_never

from pydantic import ValidationError

from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import UnitState
from kloros_infra.ir.supervision import MAX_LINE_BYTES, SOCKET_NAME, Operation, Reply, Request
from kloros_infra.supervisor import problems as say
from kloros_infra.supervisor.jobs import Jobs
from kloros_infra.supervisor.process_record import end_leftovers
from kloros_infra.supervisor.processes import Processes
from kloros_infra.supervisor.service_log import UMASK

LOG = logging.getLogger(__name__)
LOCK_NAME = "supervisor.lock"
RECORD_NAME = "supervisor-children.json"
# What services see of the environment the supervisor was started in; the rest may hold somebody's secrets.
PASSED_ON = ("PATH", "HOME", "LANG")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"  # systemd.exec(5), "Environment variables"


def run_supervisor(root: Path, *, on_ready: Callable[[], None] = lambda: None) -> int:
    """Serve a root until SIGTERM, SIGINT or a shutdown request; give the exit code.

    Raises ObstacleError when another supervisor serves the same root.
    """
    os.umask(UMASK)
    folder = root.resolve() / Layout().run
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with lock(folder, root), listening_socket(folder) as server_socket:
        if count := end_leftovers(folder / RECORD_NAME):
            LOG.warning("ended %d processes that an earlier supervisor had left behind", count)
        asyncio.run(serve(root.resolve(), folder, server_socket, on_ready))
    return 0


async def serve(root: Path, folder: Path, server_socket: socket.socket, on_ready: Callable[[], None]) -> None:
    """Take requests and look after the services until the end is asked for."""
    processes = Processes(folder / RECORD_NAME)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = {"PATH": DEFAULT_PATH, **passed_on}
    server = Server(Jobs(root, processes, environment))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, processes.reap, server.jobs.exited)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.ask_to_end)
    listener = await asyncio.start_unix_server(server.converse, sock=server_socket, limit=MAX_LINE_BYTES)
    LOG.info("serving %s, process %d", root, os.getpid())
    on_ready()
    await server.ending.wait()
    await server.jobs.close()
    await server.say_farewell()
    listener.close()
    LOG.info("ended")


class Server:
    """Answers requests; the end is asked for by a request or a signal."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.ending = asyncio.Event()
        self._is_over = asyncio.Event()
        self._farewells: set[asyncio.Task[object]] = set()

    def ask_to_end(self) -> None:
        """Begin the end; everything is stopped before the supervisor leaves."""
        self.ending.set()

    async def say_farewell(self) -> None:
        """Answer those who asked for the end, now that everything is down."""
        self._is_over.set()
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=1)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection in turn; jobs of different connections run side by side."""
        try:
            while (line := await self._read(reader, writer)).endswith(b"\n"):
                await send(writer, await self._answer(line))
        except OSError as error:  # the other side has gone away; a job it began has been carried out
            LOG.info("a client left early: %s", error)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Read a line; nothing at the end of the connection, and after a line that is too long."""
        try:
            return await reader.readline()
        except ValueError:
            reason = f"A line is longer than {MAX_LINE_BYTES} bytes."
            await send(writer, Reply(pid=os.getpid(), problems=(say.bad_request(reason),)))
            return b""

    async def _answer(self, line: bytes) -> Reply:
        try:
            request = Request.model_validate_json(line)
        except ValidationError as error:
            reason = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
            return Reply(pid=os.getpid(), problems=(say.bad_request(reason),))
        problems, states = await self._carry_out(request)
        return Reply(pid=os.getpid(), problems=problems, states=states)

    async def _carry_out(self, request: Request) -> tuple[Problems, tuple[UnitState, ...]]:
        match request.op:
            case Operation.PING:
                return (), ()
            case Operation.STATES:
                return (), self.jobs.states(request.units)
            case Operation.RELOAD:
                self.jobs.reload()
                return (), ()
            case Operation.RESET_FAILED:
                self.jobs.reset_failed(request.units)
                return (), ()
            case Operation.SHUTDOWN:
                self.ask_to_end()
                if task := asyncio.current_task():
                    self._farewells.add(task)
                await self._is_over.wait()
                return (), ()
            case Operation.START | Operation.STOP | Operation.RESTART:
                act = {"start": self.jobs.start, "stop": self.jobs.stop, "restart": self.jobs.restart}[request.op]
                return tuple([problem for unit in request.units for problem in await act(unit)]), ()
            case _ as never:
                assert_never(never)


async def send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Write one line and wait until it is taken."""
    writer.write(reply.model_dump_json().encode() + b"\n")
    await writer.drain()


@contextmanager
def lock(folder: Path, root: Path) -> Iterator[None]:
    """Hold the root; the kernel lets go of the lock whenever and however this process ends."""
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ObstacleError((say.already_running(str(root), os.read(handle, 32).decode().strip()),)) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


@contextmanager
def listening_socket(folder: Path) -> Iterator[socket.socket]:
    """Bind the socket, in place of one that a killed supervisor left; only the lock's holder gets here.

    unix(7) allows 107 bytes for the path: the folder is named by its number, so that any root will do.
    """
    folder_handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server_socket:
            server_socket.bind(f"/proc/self/fd/{folder_handle}/{SOCKET_NAME}")
            (folder / SOCKET_NAME).chmod(0o600)
            yield server_socket
    finally:
        os.close(folder_handle)
        with suppress(OSError):  # the whole root may have been removed meanwhile
            (folder / SOCKET_NAME).unlink(missing_ok=True)
