"""Readiness, asked of real servers on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.health import ServerHealth


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """Answer every connection with these bytes; None answers nothing and keeps it open."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 Loading\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", False),
        (b"garbage\r\n\r\n", False),
        (b"", False),
        (None, False),
    ],
    ids=["ready", "loading", "redirect", "garbage", "closed", "silent"],
)
def test_ready_is_an_answer_of_200(answer: bytes | None, is_ready: bool) -> None:
    with server(answer) as port:
        assert ServerHealth().is_ready(f"http://127.0.0.1:{port}/health", 0.3) is is_ready


@pytest.mark.parametrize("answer", [b"", None])
def test_ready_is_an_accepted_connection_for_tcp(answer: bytes | None) -> None:
    with server(answer) as port:
        assert ServerHealth().is_ready(f"tcp://127.0.0.1:{port}", 0.3)


@pytest.mark.parametrize("answer", [b"", None])
def test_ready_is_a_listening_socket_where_nobody_may_connect(answer: bytes | None) -> None:
    with server(answer) as port:
        assert ServerHealth().is_ready(f"listen://127.0.0.1:{port}", 0.3)
        assert not ServerHealth().is_ready(f"listen://127.0.0.2:{port}", 0.3), "an address of its own"


@pytest.mark.parametrize("scheme", ["http", "tcp", "listen"])
def test_nobody_there_is_not_ready(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not ServerHealth().is_ready(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/health", 0.3)


def test_the_clock_goes_forward_by_what_is_waited() -> None:
    clock = SystemClock()
    began = clock.now()
    clock.pause(0.01)
    assert 0.01 <= clock.now() - began < 5
