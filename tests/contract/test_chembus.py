"""The bus as KLoROS knows it: the proxy, a peer, a client, against plain pyzmq sockets and real loops."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from kloros_infra.adapters.bus_address import bus_addresses
from kloros_infra.adapters.bus_proxy import BusProxy, run_proxy
from kloros_infra.adapters.chembus import BusPeer
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES
from tests.fakes.asker import a_client
from tests.fakes.router import LOOPS, a_proxy, a_router, addresses_of
from tests.fakes.upstreams import FakeUpstreams

Run = Callable[[Coroutine[Any, Any, None]], None]
DEFAULT = RoutedBus(xsub="tcp://127.0.0.1:5556", xpub="tcp://127.0.0.1:5557")


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    return LOOPS[request.param]


@pytest.fixture
def proxy() -> Iterator[BusProxy]:
    with a_proxy() as running:
        yield running


class KlorosPeer:
    """A publisher and a subscriber as KLoROS makes them, on plain sockets."""

    def __init__(self, bus: RoutedBus, topic: str) -> None:
        context = self.context = zmq.Context()
        self.publisher, self.subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
        self.publisher.set_hwm(1000)
        self.publisher.connect(bus.xsub)
        self.subscriber.connect(bus.xpub)
        self.subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.subscriber.setsockopt(zmq.SUBSCRIBE, b"ready")
        self.subscriber.rcvtimeo = 10_000
        self.wait_until_joined()

    def wait_until_joined(self) -> None:
        """Publish until it comes back: both sides are connected then."""
        deadline = time.monotonic() + 10
        while not self.subscriber.poll(20):
            assert time.monotonic() < deadline
            self.publisher.send_multipart([b"ready", b"{}"])
        while self.subscriber.poll(50):
            self.subscriber.recv_multipart()

    def send(self, *frames: bytes) -> None:
        self.publisher.send_multipart(frames)

    def receive(self) -> list[bytes]:
        """Wait for the next message that is not some peer finding out whether it has joined."""
        while (frames := self.subscriber.recv_multipart())[0] == b"ready":
            pass
        return frames

    def close(self) -> None:
        self.context.destroy(linger=0)


Join = Callable[[str], KlorosPeer]


@pytest.fixture
def kloros_on(proxy: BusProxy) -> Iterator[Join]:
    """Join the proxy's bus as KLoROS does, subscribed to a topic."""
    peers: list[KlorosPeer] = []

    def join(topic: str) -> KlorosPeer:
        peers.append(KlorosPeer(addresses_of(proxy), topic))
        return peers[-1]

    yield join
    for peer in peers:
        peer.close()


@asynccontextmanager
async def joined(bus: RoutedBus, topic: str) -> AsyncIterator[BusPeer]:
    """Give a peer whose subscription the proxy knows."""
    async with BusPeer(bus, [topic, "ready"]) as peer:
        async with asyncio.timeout(10):
            arrived = asyncio.create_task(peer.receive())
            while not arrived.done():
                peer.publish("ready", b"{}")
                await asyncio.wait([arrived], timeout=0.02)
        yield peer


async def next_on(peer: BusPeer, topic: str) -> bytes:
    async with asyncio.timeout(10):
        while True:
            got, payload = await peer.receive()
            if got == topic:
                return payload


def test_the_proxy_carries_two_frames_from_our_peer_to_a_kloros_one(run: Run, proxy: BusProxy, kloros_on: Join) -> None:
    kloros = kloros_on("llm.")

    async def publish() -> None:
        async with joined(addresses_of(proxy), "ready") as peer:
            peer.publish("llm.health", b'{"signal":"llm.health"}')

    run(publish())
    assert kloros.receive() == [b"llm.health", b'{"signal":"llm.health"}']


def test_our_peer_takes_what_kloros_sends_and_drops_what_is_not_two_frames(
    run: Run, proxy: BusProxy, kloros_on: Join
) -> None:
    kloros = kloros_on("unused")

    async def receive() -> None:
        async with joined(addresses_of(proxy), "topic") as peer:
            kloros.send(b"topic", b"one", b"too many")
            kloros.send(b"topic")
            kloros.send(b"topic\xff", b"not text")
            kloros.send(b"topic", b"good")
            assert await next_on(peer, "topic") == b"good"
            assert peer.malformed_count == 3

    run(receive())


def test_a_subscription_is_a_prefix_as_everywhere_in_zeromq(run: Run, proxy: BusProxy) -> None:
    async def main() -> None:
        async with joined(addresses_of(proxy), "llm.request") as peer:
            peer.publish("llm.request.x", b"bleeds")
            assert await next_on(peer, "llm.request.x") == b"bleeds"

    run(main())


def test_a_burst_within_the_high_water_mark_arrives_whole_and_in_order(run: Run, proxy: BusProxy) -> None:
    async def main() -> None:
        async with joined(addresses_of(proxy), "burst") as peer:
            for number in range(900):
                peer.publish("burst", b"%d" % number)
            assert [await next_on(peer, "burst") for _ in range(900)] == [b"%d" % number for number in range(900)]

    run(main())


def test_a_full_backlog_is_filled_up_again_as_it_is_taken(run: Run, proxy: BusProxy, kloros_on: Join) -> None:
    kloros = kloros_on("done")

    async def main() -> None:
        async with (
            BusPeer(addresses_of(proxy), ["burst"], backlog=10) as peer,
            joined(addresses_of(proxy), "x") as other,
        ):
            while not peer._arrived:
                other.publish("burst", b"first")
                await asyncio.sleep(0.01)  # until the subscription is known
            for number in range(500):
                other.publish("burst", b"%d" % number)
            other.publish("done", b"")
            assert await asyncio.to_thread(kloros.receive)
            payloads: list[bytes] = []
            async with asyncio.timeout(10):
                while not payloads or payloads[-1] != b"499":
                    payloads.append((await peer.receive())[1])
            assert [payload for payload in payloads if payload != b"first"] == [b"%d" % n for n in range(500)]

    run(main())


def test_a_message_above_the_limit_is_lost_and_the_bus_goes_on(proxy: BusProxy, kloros_on: Join) -> None:
    kloros = kloros_on("topic")
    other = kloros_on("nothing")
    kloros.send(b"topic", b"x" * (MAX_PAYLOAD_BYTES + 1))
    other.send(b"topic", b"good")
    assert kloros.receive() == [b"topic", b"good"]


def test_the_proxy_ends_within_a_second_and_frees_its_ports() -> None:
    stop, bound = threading.Event(), threading.Event()
    found: list[str] = []

    def on_bound(*addresses: str) -> None:
        found.extend(addresses)
        bound.set()

    thread = threading.Thread(
        target=run_proxy, args=("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"), kwargs={"stop": stop, "on_bound": on_bound}
    )
    thread.start()
    assert bound.wait(10)
    began = time.monotonic()
    stop.set()
    thread.join(10)
    assert time.monotonic() - began < 1
    BusProxy(*found).close()


def test_a_taken_port_is_named(proxy: BusProxy) -> None:
    with pytest.raises(ObstacleError) as raised:
        BusProxy("tcp://127.0.0.1:*", proxy.xpub)
    (problem,) = raised.value.problems
    assert problem.code == "KI701"
    assert proxy.xpub in problem.detail


def test_an_address_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObstacleError) as raised:
        BusProxy(f"ipc://{tmp_path}/absent/bus", "tcp://127.0.0.1:*")
    assert raised.value.problems[0].code == "KI703"


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:5556",
        "tcp://*:5556",
        "tcp://192.168.1.2:5556",
        "tcp://localhost:5556",
        "tcp://[::]:5556",
        "tcp://127.0.0.1.5.5:1",
        "tcp://127.0.0.1",
        "ipc://",
        "5556",
        "",
    ],
)
def test_only_loopback_is_served_and_connected_to(address: str) -> None:
    for attempt in (
        lambda: BusProxy(address, "tcp://127.0.0.1:*"),
        lambda: BusPeer(RoutedBus(xsub="tcp://127.0.0.1:1", xpub=address), []),
    ):
        with pytest.raises(ProblemsError) as raised:
            attempt()
        assert raised.value.problems[0].code == "KI702"


def test_ipc_and_ipv6_loopback_are_addresses_too(tmp_path: Path) -> None:
    BusProxy(f"ipc://{tmp_path}/xsub", f"ipc://{tmp_path}/xpub").close()
    bus = RoutedBus(xsub="tcp://[::1]:1", xpub="tcp://127.0.0.2:1")

    async def main() -> None:
        async with BusPeer(bus, []):
            pass

    asyncio.run(main())


@pytest.mark.parametrize(
    ("env", "xsub"),
    [
        ({}, "tcp://127.0.0.1:5556"),
        ({"KLR_CHEM_XSUB": "tcp://127.0.0.1:1"}, "tcp://127.0.0.1:1"),
        ({"KLR_UMN_XSUB": "tcp://127.0.0.1:2"}, "tcp://127.0.0.1:2"),
        ({"KLR_CHEM_XSUB": "", "KLR_UMN_XSUB": "tcp://127.0.0.1:2"}, "tcp://127.0.0.1:2"),
        ({"KLR_CHEM_XSUB": "tcp://127.0.0.1:3", "KLR_UMN_XSUB": "tcp://127.0.0.1:3"}, "tcp://127.0.0.1:3"),
    ],
)
def test_both_families_of_variables_name_the_bus(env: dict[str, str], xsub: str) -> None:
    assert bus_addresses(env, DEFAULT) == RoutedBus(xsub=xsub, xpub=DEFAULT.xpub)


def test_families_that_disagree_are_refused() -> None:
    with pytest.raises(ProblemsError) as raised:
        bus_addresses({"KLR_CHEM_XPUB": "tcp://127.0.0.1:1", "KLR_UMN_XPUB": "tcp://127.0.0.1:2"}, DEFAULT)
    (problem,) = raised.value.problems
    assert problem.code == "KI706"
    assert "KLR_CHEM_XPUB=tcp://127.0.0.1:1" in problem.detail


def test_a_client_is_answered(run: Run, proxy: BusProxy) -> None:
    async def main() -> None:
        async with a_router(addresses_of(proxy)), a_client(addresses_of(proxy)) as client:
            reply = await client.request("Hi.", purpose="fast", max_tokens=5, timeout_s=10)
            assert (reply["success"], reply["response"]) == (True, "Hello there.")
            refusal = await client.request("Hi.", model="nobody", timeout_s=10)
            assert (refusal["success"], refusal["error"]["code"]) == (False, "KI801")

    run(main())


def test_500_instant_replies_to_a_fresh_client_all_arrive(run: Run, proxy: BusProxy) -> None:
    async def main() -> None:
        async with a_router(addresses_of(proxy)) as service:
            async with a_client(addresses_of(proxy)) as client:
                replies = await asyncio.gather(*(client.request(f"{n}", timeout_s=30) for n in range(500)))
            assert all(reply["success"] for reply in replies)
            assert len({reply["request_id"] for reply in replies}) == 500
            assert service.face.answered_count == 500

    run(main())


def test_60_clients_that_ask_once_and_leave_are_all_answered(proxy: BusProxy) -> None:
    async def ask() -> bool:
        async with a_client(addresses_of(proxy)) as client:
            return bool((await client.request("Hi.", timeout_s=30))["success"])

    async def main() -> None:
        async with a_router(addresses_of(proxy)):
            for _ in range(60):
                assert await ask()

    asyncio.run(main())


def test_a_client_may_start_before_the_bus_and_the_router(run: Run) -> None:
    with a_proxy() as gone:
        bus = addresses_of(gone)

    async def main() -> None:
        async with a_client(bus) as client:
            asked = asyncio.create_task(client.request("Hi.", timeout_s=20))
            await asyncio.wait([asked], timeout=0.2)
            with BusProxy(bus.xsub, bus.xpub):
                await asyncio.wait([asked], timeout=0.2)
                async with a_router(bus):
                    assert (await asked)["success"]

    run(main())


def test_a_bus_that_restarts_loses_no_question(proxy: BusProxy) -> None:
    bus, upstreams = addresses_of(proxy), FakeUpstreams()

    async def main() -> None:
        upstreams.gate.clear()
        async with a_router(bus, upstreams), a_client(bus) as client:
            asked = [asyncio.create_task(client.request("Hi.", timeout_s=30)) for _ in range(20)]
            while len(upstreams.asked) < 20:
                await asyncio.wait(asked, timeout=0.02)
            proxy.close()
            upstreams.gate.set()  # the answers go nowhere
            await asyncio.wait(asked, timeout=0.2)
            assert not any(task.done() for task in asked)
            with BusProxy(bus.xsub, bus.xpub):
                replies = await asyncio.gather(*asked)
            assert all(reply["success"] for reply in replies)
            assert len(upstreams.asked) == 20, "resent questions are answered from the ledger"

    asyncio.run(main())


# What a broken or hostile peer may put on llm.request; none of it has a request_id that can be read.
NOISE: tuple[tuple[bytes, ...], ...] = (
    (b"llm.request",),
    (b"llm.request", b"", b""),
    (b"llm.request", b"{}", b"third"),
    (b"llm.request", *[b"x"] * 1000),
    (b"llm.request", b""),
    (b"llm.request", b"{"),
    (b"llm.request", b"[]"),
    (b"llm.request", b"null"),
    (b"llm.request", b"true"),
    (b"llm.request", b'"text"'),
    (b"llm.request", b"NaN"),
    (b"llm.request", b'{"request_id":NaN}'),
    (b"llm.request", b'{"request_id":"a","prompt":"x","temperature":-Infinity}'),
    (b"llm.request", b"\xff\xfe\x00"),
    (b"llm.request", b'{"request_id":"a","prompt":"\xc3("}'),
    (b"llm.request", b'{"request_id":"a","prompt":"\\udc00"}'),
    (b"llm.request", b"[" * 200_000),
    (b"llm.request", b'{"facts":' * 5_000 + b"1" + b"}" * 5_000),
    (b"llm.request", b"1" * 100_000),
    (b"llm.request", b"\x00" * 1000),
    (b"llm.request", b"{}"),
    (b"llm.request", b'{"facts":{}}'),
    (b"llm.request", b'{"facts":null,"signal":"llm.request"}'),
    (b"llm.request", b'{"facts":{"prompt":"no id"}}'),
    (b"llm.request", b'{"facts":{"request_id":"","prompt":"x"}}'),
    (b"llm.request", b'{"facts":{"request_id":"a\\nb","prompt":"x"}}'),
    (b"llm.request", b'{"facts":{"request_id":"a/../b","prompt":"x"}}'),
    (b"llm.request", b'{"facts":{"request_id":["a"],"prompt":"x"}}'),
    (b"llm.request", b'{"facts":{"request_id":"' + b"a" * 129 + b'","prompt":"x"}}'),
    (b"llm.request", b'{"facts":{"request_id":"a","prompt":"' + b"x" * MAX_PAYLOAD_BYTES + b'"}}'),
    (b"llm.request.evil", b'{"request_id":"evil","prompt":"x"}'),
    (b"llm.requesT", b'{"request_id":"evil","prompt":"x"}'),
)
# Wrong too, but there is somebody to tell.
WRONG = (
    b'{"request_id":"%d"}',
    b'{"facts":{"request_id":"%d"}}',
    b'{"facts":{"request_id":"%d","prompt":""}}',
    b'{"facts":{"request_id":"%d","prompt":{}}}',
    b'{"facts":{"request_id":"%d","prompt":"x","max_tokens":-1}}',
    b'{"facts":{"request_id":"%d","prompt":"x","temperature":1e999}}',
    b'{"facts":{"request_id":"%d","prompt":"x","constraints":[]}}',
    b'{"facts":{"request_id":"%d","prompt":"x","purpose":"unheard_of"}}',
)


def test_noise_is_dropped_wrong_requests_are_answered_and_both_live_on(proxy: BusProxy, kloros_on: Join) -> None:
    kloros = kloros_on("llm.response.")

    async def main() -> None:
        async with a_router(addresses_of(proxy)) as service, a_client(addresses_of(proxy)) as client:
            assert (await client.request("Are you there?", timeout_s=10))["success"]
            for frames in NOISE:
                kloros.send(*frames)
                # One at a time: a peer that sends too much is cut off, and its next messages with it.
                kloros.wait_until_joined()
            for number, payload in enumerate(WRONG):
                kloros.send(b"llm.request", payload % number)
            assert (await client.request("Still there?", timeout_s=10))["success"]
            assert service.face.answered_count == len(WRONG) + 2

    asyncio.run(main())
    replies = [json.loads(kloros.receive()[1])["facts"] for _ in range(len(WRONG) + 1)]
    refused = {reply["request_id"]: reply["error"]["code"] for reply in replies if not reply["success"]}
    assert refused == {str(number): "KI810" for number in range(len(WRONG) - 1)} | {str(len(WRONG) - 1): "KI803"}


def test_a_double_tap_of_kloros_is_answered_once(proxy: BusProxy, kloros_on: Join) -> None:
    kloros = kloros_on("llm.response.")
    message = json.dumps(
        {"signal": "llm.request", "ecosystem": "llm", "facts": {"request_id": "req_01", "prompt": "Hi."}, "ts": 1.0}
    ).encode()

    async def main() -> None:
        async with a_router(addresses_of(proxy)) as service, a_client(addresses_of(proxy)) as client:
            await client.request("Are you there?", timeout_s=10)
            kloros.send(b"llm.request", message)
            kloros.send(b"llm.request", message)
            await client.request("All taken?", timeout_s=10)
            assert service.face.answered_count == 3

    asyncio.run(main())
    topics: list[bytes] = []
    while kloros.subscriber.poll(100):
        topics.append(kloros.receive()[0])
    assert topics.count(b"llm.response.req_01") == 1
