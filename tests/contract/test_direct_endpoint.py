"""The direct endpoint against plain pyzmq sockets, on both loops."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from kloros_infra.adapters.direct_endpoint import DirectEndpoint
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES
from tests.fakes.router import LOOPS

Run = Callable[[Coroutine[Any, Any, None]], None]
NewSocket = Callable[..., "zmq.Socket[bytes]"]


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    return LOOPS[request.param]


@pytest.fixture
def a_socket() -> Iterator[NewSocket]:
    """Make sockets that are closed at the end."""
    context, made = zmq.Context(), list[zmq.Socket[bytes]]()

    def make(kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
        made.append(context.socket(kind))
        return made[-1]

    yield make
    context.destroy(linger=0)


class Echo:
    """Answers each message with itself, or keeps it."""

    def __init__(self, endpoint: DirectEndpoint, *, is_mute: bool = False) -> None:
        self.endpoint = endpoint
        self.is_mute = is_mute
        self.heard: list[tuple[bytes, bytes]] = []
        endpoint.listen(self.hear)

    def hear(self, client: bytes, payload: bytes) -> None:
        self.heard.append((client, payload))
        if not self.is_mute:
            assert self.endpoint.send(client, payload)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is waited for lies outside of the loop
            await asyncio.sleep(0.005)


async def heard(echo: Echo, count: int) -> None:
    await until(lambda: len(echo.heard) == count)


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ], ids=["DEALER", "REQ"])
def test_clients_of_both_kinds_are_answered(run: Run, a_socket: NewSocket, kind: int) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            Echo(endpoint)
            client = a_socket(kind)
            client.connect(endpoint.address)
            for number in range(3):
                client.send(b"%d" % number)
                assert await asyncio.to_thread(client.recv) == b"%d" % number

    run(main())


def test_a_burst_arrives_whole_and_in_order(run: Run, a_socket: NewSocket) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            Echo(endpoint)
            client = a_socket()
            client.set_hwm(0)
            client.connect(endpoint.address)
            for number in range(5000):
                client.send(b"%d" % number)
            back = await asyncio.to_thread(lambda: [client.recv() for _ in range(5000)])
            assert back == [b"%d" % number for number in range(5000)]

    run(main())


def test_what_comes_while_an_answer_goes_out_is_not_overlooked(run: Run, a_socket: NewSocket) -> None:
    """Sending takes the descriptor's signal as receiving does."""

    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            echo = Echo(endpoint, is_mute=True)
            client = a_socket()
            client.connect(endpoint.address)
            client.send(b"first")
            await until(lambda: len(echo.heard) == 1)
            for number in range(200):
                client.send(b"%d" % number)
                endpoint.send(echo.heard[0][0], b"answer")
                await heard(echo, number + 2)

    run(main())


def test_a_client_that_is_gone_is_noticed(run: Run, a_socket: NewSocket) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            echo = Echo(endpoint, is_mute=True)
            client = a_socket()
            client.connect(endpoint.address)
            client.send(b"hello")
            await until(lambda: len(echo.heard) == 1)
            assert endpoint.send(echo.heard[0][0], b"are you there?")
            client.close(linger=0)
            await until(lambda: not endpoint.send(echo.heard[0][0], b"are you there?"))
            assert not endpoint.send(b"dnobody", b"x")

    run(main())


ROUTER = """
import asyncio, sys
from kloros_infra.adapters.direct_endpoint import DirectEndpoint

async def main():
    async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
        def hear(client, payload):
            loop = asyncio.get_running_loop()
            loop.call_later(1.5, lambda: print("heard", flush=True))
            loop.call_later(2.0, lambda: print(endpoint.send(client, payload), flush=True))
        endpoint.listen(hear)
        print(endpoint.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def test_a_router_that_stood_still_answers_whom_it_heard_before(a_socket: NewSocket) -> None:
    with subprocess.Popen([sys.executable, "-c", ROUTER], stdin=-1, stdout=-1, text=True) as router:
        assert router.stdin
        assert router.stdout
        client = a_socket()
        client.connect(router.stdout.readline().strip())
        client.send(b"hello")
        assert router.stdout.readline() == "heard\n"
        router.send_signal(signal.SIGSTOP)
        time.sleep(4.5)  # as long as a machine is suspended for a moment
        router.send_signal(signal.SIGCONT)
        assert router.stdout.readline() == "True\n"
        assert client.poll(10_000)
        assert client.recv() == b"hello"
        router.stdin.close()


def test_what_is_larger_than_can_be_read_cuts_nobody(a_socket: NewSocket) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            Echo(endpoint)
            client = a_socket()
            client.connect(endpoint.address)
            payload = b"x" * (MAX_PAYLOAD_BYTES + 1)
            client.send(payload)
            assert await asyncio.to_thread(client.poll, 10_000)
            assert client.recv() == payload

    asyncio.run(main())


def test_what_is_not_one_payload_is_dropped(a_socket: NewSocket) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            echo = Echo(endpoint)
            client = a_socket()
            client.connect(endpoint.address)
            client.send_multipart([b"two", b"frames"])
            client.send_multipart([b"", b"a", b"b"])
            client.send(b"good")
            assert await asyncio.to_thread(client.recv) == b"good"
            assert [payload for _, payload in echo.heard] == [b"good"]
            assert endpoint.malformed_count == 2

    asyncio.run(main())


def test_a_socket_in_the_file_system_comes_and_goes(a_socket: NewSocket, tmp_path: Path) -> None:
    async def main() -> None:
        async with DirectEndpoint(f"ipc://{tmp_path}/direct") as endpoint:
            Echo(endpoint)
            client = a_socket()
            client.connect(endpoint.address)
            client.send(b"x")
            assert await asyncio.to_thread(client.recv) == b"x"
        assert not endpoint.send(b"dx", b"late")

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            with pytest.raises(ObstacleError) as raised:
                DirectEndpoint(endpoint.address)
            (problem,) = raised.value.problems
            assert problem.code == "KI712"
            assert endpoint.address in problem.detail

    asyncio.run(main())
    with pytest.raises(ProblemsError) as raised:
        DirectEndpoint("tcp://0.0.0.0:5555")
    assert raised.value.problems[0].code == "KI702"
    with pytest.raises(ObstacleError):
        DirectEndpoint(f"ipc://{tmp_path}/absent/direct")


def test_json_of_any_kind_is_passed_on(a_socket: NewSocket) -> None:
    async def main() -> None:
        async with DirectEndpoint("tcp://127.0.0.1:*") as endpoint:
            Echo(endpoint)
            client = a_socket()
            client.connect(endpoint.address)
            payload = json.dumps({"text": "Grüß dich 👋" * 10_000}).encode()
            client.send(payload)
            assert await asyncio.to_thread(client.recv) == payload

    asyncio.run(main())
