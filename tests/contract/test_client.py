"""The client library on real sockets, over the direct endpoint and over the bus, in threads and on a loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.client import Addresses, AsyncClient, Client, ClosedError, LlmError, NoAnswerError, RefusedError
from kloros_infra.client.conversation import FALLBACK_S
from kloros_infra.daemon.bus_service import BusService
from kloros_infra.ir.routing import RoutedBus
from tests.fakes.asker import a_client
from tests.fakes.no_descriptors import no_descriptors_left
from tests.fakes.router import a_proxy, a_router, addresses_of
from tests.fakes.upstreams import FakeUpstreams


@pytest.fixture
def proxy() -> Iterator[BusProxy]:
    with a_proxy() as running:
        yield running


@pytest.fixture
def bus(proxy: BusProxy, tmp_path: Path) -> RoutedBus:
    return addresses_of(proxy).model_copy(update={"direct": f"ipc://{tmp_path}/direct"})


WAYS = ["direct", "bus"]


@pytest.fixture(params=WAYS)
def addresses(request: pytest.FixtureRequest, bus: RoutedBus) -> Addresses:
    return Addresses(bus.direct if request.param == "direct" else None, bus.xsub, bus.xpub)


class RouterThread:
    """A router on a loop of its own, so that a test may block."""

    def __init__(self, bus: RoutedBus, upstreams: FakeUpstreams) -> None:
        self.bus = bus
        self.upstreams = upstreams
        self.service: BusService | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> RouterThread:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def gate(self, *, is_open: bool) -> None:
        """Hold answers back, or let them go, from when this returns: the router may just be reading questions."""

        async def change() -> None:
            if is_open:
                self.upstreams.gate.set()
            else:
                self.upstreams.gate.clear()

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with a_router(self.bus, self.upstreams) as self.service:
            self._ready.set()
            await self._over.wait()


@pytest.fixture
def router(bus: RoutedBus) -> Iterator[RouterThread]:
    upstreams = FakeUpstreams()
    upstreams.pieces = ("Hello ", "there.")
    with RouterThread(bus, upstreams) as running:
        yield running


def until(condition: Callable[[], object]) -> None:
    """Poll a condition with a deadline."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # the pause between two polls of a condition with a deadline


def test_a_question_is_one_line(router: RouterThread, addresses: Addresses) -> None:
    with Client(addresses, source="test") as client:
        answer = client.ask("Hi.", purpose="fast")
        assert (str(answer), answer.model_id) == ("Hello there.", "small")
        with pytest.raises(RefusedError) as raised:
            client.ask("Hi.", model="smal")
        assert (raised.value.code, raised.value.hint) == ("KI801", "Did you mean 'small'?")


def test_pieces_come_one_by_one(router: RouterThread, addresses: Addresses) -> None:
    with Client(addresses) as client:
        stream = client.stream("Hi.")
        assert list(stream) == ["Hello ", "there."]
        assert stream.answer is not None
        assert stream.answer.text == "Hello there."
        assert list(stream) == []
        with pytest.raises(RefusedError):
            list(client.stream("Hi.", model="nobody"))


def test_any_number_of_threads_may_ask(router: RouterThread, addresses: Addresses) -> None:
    answers: list[str] = []
    with Client(addresses) as client:
        threads = [
            threading.Thread(target=lambda: answers.extend(client.ask("Hi.").request_id for _ in range(20)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(answers)) == 160


def test_a_stream_that_is_left_stops_the_model(router: RouterThread, addresses: Addresses) -> None:
    router.gate(is_open=False)
    with Client(addresses) as client:
        with client.stream("Hi."):
            until(lambda: router.upstreams.calls)
        until(lambda: router.upstreams.calls[0].is_cancelled)


def test_a_question_that_takes_too_long_is_ended_and_the_model_stops(
    router: RouterThread, addresses: Addresses
) -> None:
    with Client(addresses) as client:
        client.ask("Are you there?")
        router.gate(is_open=False)
        with pytest.raises(NoAnswerError) as raised:
            client.ask("Hi.", timeout_s=0.3)
        # Both clocks run: the client's and the router's, which says KI826.
        assert raised.value.code in {"KI850", "KI826"}
        assert isinstance(raised.value, TimeoutError)
        until(lambda: router.upstreams.calls[-1].is_cancelled)


def test_nobody_there_is_told_apart(tmp_path: Path) -> None:
    nowhere = Addresses(f"ipc://{tmp_path}/none", f"ipc://{tmp_path}/xsub", f"ipc://{tmp_path}/xpub")
    with Client(nowhere) as client, pytest.raises(NoAnswerError) as raised:
        client.ask("Hi.", timeout_s=0.5)
    assert raised.value.code == "KI851"
    assert str(tmp_path) in raised.value.message


def test_a_closed_client_says_so_to_all_who_wait(router: RouterThread, addresses: Addresses) -> None:
    router.gate(is_open=False)
    client = Client(addresses)
    found: list[BaseException] = []

    def ask() -> None:
        try:
            client.ask("Hi.")
        except ClosedError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: router.upstreams.calls)
    client.close()
    client.close()
    thread.join(10)
    assert len(found) == 1
    with pytest.raises(ClosedError):
        client.ask("Hi.")


def test_a_forked_process_gets_connections_of_its_own(router: RouterThread, bus: RoutedBus) -> None:
    client = Client(Addresses(bus.direct, bus.xsub, bus.xpub))
    assert client.ask("Hi.").text == "Hello there."
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, client.ask("Hi.").text.encode())
        os._exit(0)
    assert os.read(reading, 100) == b"Hello there."
    os.waitpid(child, 0)
    assert client.ask("Hi.").text == "Hello there."
    client.close()


def test_what_cannot_be_written_is_refused_where_it_is_asked(router: RouterThread, addresses: Addresses) -> None:
    with Client(addresses) as client:
        with pytest.raises(TypeError):
            client.ask("Hi.", metadata={"x": object()})
        assert client.ask("Hi.").text == "Hello there."


@pytest.mark.parametrize(("prompt", "code"), [("x" * 9_000_000, "KI855"), ("caf\udce9", "KI856")])
def test_what_the_router_would_not_take_in_is_refused_at_once_and_others_go_on(
    router: RouterThread, addresses: Addresses, prompt: str, code: str
) -> None:
    router.gate(is_open=False)
    with Client(addresses) as client, client.stream("Hi.") as waiting:
        until(lambda: router.upstreams.calls)
        with pytest.raises(RefusedError) as raised:
            client.ask(prompt)
        assert raised.value.code == code
        router.gate(is_open=True)
        assert "".join(waiting) == "Hello there."
    assert len(router.upstreams.calls) == 1, "its connection was not cut, so nothing was asked again"


# Without sockets.

FIRST_S = 5.0
"""Far less than the question may take."""


def unusable(tmp_path: Path, side: str) -> Addresses:
    """Give addresses that look right, one of which libzmq cannot connect to: unix(7) ends paths at 107 bytes."""
    bus = Addresses(None, f"ipc://{tmp_path}/xsub", f"ipc://{tmp_path}/xpub")
    return bus._replace(**{side: f"ipc://{tmp_path}/{'x' * 120}"})


@pytest.mark.parametrize("side", ["direct", "xsub", "xpub"])
def test_sockets_that_cannot_be_made_are_told_to_all_who_ask(tmp_path: Path, side: str) -> None:
    began = time.monotonic()
    with Client(unusable(tmp_path, side)) as client:
        for _ in range(3):
            with pytest.raises(LlmError) as raised:
                client.ask("Hi.")
            assert raised.value.code == "KI858"
        with pytest.raises(LlmError, match="KI858"):
            list(client.stream("Hi."))
    assert time.monotonic() - began < FIRST_S


@pytest.mark.parametrize("side", ["direct", "xsub", "xpub"])
def test_on_a_loop_they_are_told_too(tmp_path: Path, side: str) -> None:
    async def main() -> None:
        async with asyncio.timeout(FIRST_S), AsyncClient(unusable(tmp_path, side)) as client:
            for _ in range(3):
                with pytest.raises(LlmError) as raised:
                    await client.ask("Hi.")
                assert raised.value.code == "KI858"
            with pytest.raises(LlmError, match="KI858"):
                _ = [piece async for piece in client.stream("Hi.")]

    asyncio.run(main())


def test_where_files_run_out_it_is_told_and_asked_again_once_there_are_some(
    router: RouterThread, addresses: Addresses
) -> None:
    with Client(addresses) as client:
        for _ in range(2):
            with no_descriptors_left(), pytest.raises(LlmError) as raised:
                client.ask("Hi.")
            assert (raised.value.code, raised.value.is_temporary) == ("KI858", True)
        assert client.ask("Hi.").text == "Hello there."


SCARCE = """
import os, resource, sys
from kloros_infra.client import Addresses, Client, LlmError
there = len(os.listdir("/proc/self/fd")) - 1
with Client(Addresses(*sys.argv[1:])) as client:
    for spare in range(24):
        resource.setrlimit(resource.RLIMIT_NOFILE, (there + spare, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            client.ask("Hi.", timeout_s=0.05)
        except LlmError as error:
            print(error.code)
"""


def test_however_few_files_are_left_libzmq_does_not_abort_the_service(tmp_path: Path) -> None:
    nowhere = [f"ipc://{tmp_path}/{side}" for side in Addresses._fields]
    done = subprocess.run([sys.executable, "-c", SCARCE, *nowhere], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    codes = done.stdout.split()
    assert len(codes) == 24
    assert codes == sorted(codes, reverse=True)
    assert set(codes) == {"KI851", "KI858"}


def test_on_a_loop_it_is_asked_again_too(router: RouterThread, addresses: Addresses) -> None:
    async def main() -> None:
        async with AsyncClient(addresses) as client:
            with no_descriptors_left(), pytest.raises(LlmError) as raised:
                await client.ask("Hi.")
            assert (raised.value.code, raised.value.is_temporary) == ("KI858", True)
            assert (await client.ask("Hi.")).text == "Hello there."

    asyncio.run(main())


def test_a_bus_that_cannot_be_joined_ends_the_questions_and_the_direct_way_goes_on(
    bus: RoutedBus, tmp_path: Path
) -> None:
    addresses = unusable(tmp_path, "xpub")._replace(direct=bus.direct)

    async def main() -> None:
        async with AsyncClient(addresses) as client:
            with pytest.raises(LlmError, match="KI858"):
                await client.ask("Hi.")
            async with a_router(bus):
                assert (await client.ask("Hi.")).text == "Hello there."

    asyncio.run(main())


# On a loop.


@pytest.mark.parametrize("way", WAYS)
def test_on_a_loop_it_is_the_same(bus: RoutedBus, way: str) -> None:
    used = bus if way == "direct" else bus.model_copy(update={"direct": None})

    async def main() -> None:
        upstreams = FakeUpstreams()
        upstreams.pieces = ("Hello ", "there.")
        async with a_router(bus, upstreams), a_client(used) as client:
            assert (await client.ask("Hi.")).text == "Hello there."
            stream = client.stream("Hi.")
            assert [piece async for piece in stream] == ["Hello ", "there."]
            assert stream.answer is not None
            with pytest.raises(RefusedError):
                await client.ask("Hi.", model="nobody")
            upstreams.gate.clear()
            asked = asyncio.create_task(client.ask("Hi."))
            async with asyncio.timeout(5):
                while len(upstreams.calls) < 3:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.005)
                asked.cancel()
                while not upstreams.calls[-1].is_cancelled:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.005)
            with pytest.raises(NoAnswerError):
                await client.ask("Hi.", timeout_s=0.1)
            waiting = asyncio.create_task(client.ask("Hi."))
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(ClosedError):
                await waiting
            with pytest.raises(ClosedError):
                await client.ask("Hi.")

    asyncio.run(main())


def test_fresh_clients_by_the_hundred_lose_nothing(bus: RoutedBus) -> None:
    async def ask(used: RoutedBus) -> bool:
        async with a_client(used) as client:
            return (await client.ask("Hi.", timeout_s=20)).text == "Hello there."

    async def main() -> None:
        async with a_router(bus):
            for used in (bus, bus.model_copy(update={"direct": None})):
                assert all(await asyncio.gather(*(ask(used) for _ in range(100))))

    asyncio.run(main())


# Faults.


@pytest.mark.parametrize("way", WAYS)
def test_a_router_that_is_killed_and_comes_back_answers_all(bus: RoutedBus, way: str) -> None:
    used = bus if way == "direct" else bus.model_copy(update={"direct": None})

    async def main() -> None:
        first, second = FakeUpstreams(), FakeUpstreams()
        first.gate.clear()
        async with a_client(used) as client:
            async with a_router(bus, first, dies=True):
                asked = [asyncio.create_task(client.request("Hi.", timeout_s=20)) for _ in range(10)]
                async with asyncio.timeout(5):
                    while len(first.calls) < 10:  # noqa: ASYNC110 - what is waited for has no event
                        await asyncio.sleep(0.005)
            async with a_router(bus, second):
                replies = await asyncio.gather(*asked)
        assert {reply["success"] for reply in replies} == {True}
        assert len(second.calls) == 10

    asyncio.run(main())


def test_where_the_direct_endpoint_goes_the_bus_takes_over(bus: RoutedBus) -> None:
    async def main() -> None:
        async with a_client(bus) as client:
            async with a_router(bus):
                assert (await client.ask("Hi.", timeout_s=10)).text == "Hello there."
            async with a_router(bus.model_copy(update={"direct": None})):
                assert (await client.ask("Hi.", timeout_s=10)).text == "Hello there."
                took_s = []
                for _ in range(5):
                    began = time.monotonic()
                    assert (await client.ask("Hi.", timeout_s=10)).text == "Hello there."
                    took_s.append(time.monotonic() - began)
                assert min(took_s) < FALLBACK_S, "it does not look for the other again each time"

    asyncio.run(main())
