"""Who listens on a port: asked of the real /proc, and of one that was written down."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros_infra.adapters.ports_in_use import ProcPorts
from kloros_infra.ir.observed import Listener


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def listening(request: pytest.FixtureRequest) -> Iterator[int]:
    family, host = request.param
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        yield server.getsockname()[1]


def test_our_own_listener_is_found(listening: int) -> None:
    (found,) = ProcPorts().listeners(listening)
    assert found.pid == os.getpid()
    assert found.name
    assert found.ancestors[0] == os.getppid()
    assert found.belongs_to(os.getpid())
    assert found.belongs_to(os.getppid())
    assert not found.belongs_to(0)


def test_a_port_that_is_bound_but_not_listened_on_is_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert ProcPorts().listeners(server.getsockname()[1]) == ()


def test_a_listener_on_another_address_is_not_in_the_way() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.2", 0))
        server.listen()
        assert ProcPorts().listeners(server.getsockname()[1]) == ()


LISTEN = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_listener_in_a_child_belongs_to_its_parent() -> None:
    argv = [sys.executable, "-c", LISTEN]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        (found,) = ProcPorts().listeners(port)
        assert found.pid == child.pid
        assert found.belongs_to(os.getpid())
        child.communicate("")


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def a_proc(folder: Path, *, with_process: bool) -> Path:
    (folder / "net").mkdir(parents=True)
    row = "   0: 0100007F:2199 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n"
    (folder / "net/tcp").write_text(HEAD + row)
    if with_process:
        for pid, parent in ((42, 7), (7, 1), (1, 0)):
            (folder / str(pid) / "fd").mkdir(parents=True)
            (folder / str(pid) / "comm").write_text("llama server)\n")
            (folder / str(pid) / "stat").write_text(f"{pid} (llama server)) S {parent} 1 1")
        (folder / "42/fd/3").symlink_to("socket:[4711]")
        (folder / "42/fd/4").symlink_to("/dev/null")
        (folder / "42/fd/5").write_text("no link, as a descriptor that closed")
    return folder


def test_names_with_brackets_do_not_confuse_the_parent(tmp_path: Path) -> None:
    ports = ProcPorts(a_proc(tmp_path, with_process=True))
    assert ports.listeners(0x2199) == (Listener(42, "llama server)", (7, 1)),)
    assert ports.listeners(1) == ()


def test_a_socket_whose_process_is_hidden_is_still_a_listener(tmp_path: Path) -> None:
    assert ProcPorts(a_proc(tmp_path, with_process=False)).listeners(0x2199) == (Listener(0),)


def test_a_process_that_ends_meanwhile_is_passed_over(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, with_process=True)
    (proc / "9").mkdir()
    (proc / "9/fd").write_text("not a folder any more")
    (proc / "42/stat").unlink()
    assert ProcPorts(proc).listeners(0x2199) == (Listener(42, "llama server)", ()),)
