"""From a question on the bus to an answer: the whole router on real files, sockets and llama-servers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.chembus import BusPeer
from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.direct_endpoint import DirectEndpoint
from kloros_infra.adapters.line_journal import LineJournal
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.client import AsyncClient, RefusedError
from kloros_infra.daemon.http_server import HttpServer, serve
from kloros_infra.daemon.run import Outside, Stop, run_router
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.routing import RoutedBridge, RoutedBus, RoutedModel, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.asker import a_client
from tests.fakes.llama_server import DieBeforeAnswer, DieMidStream, FakeLlamaServer
from tests.fakes.router import LOOPS, a_proxy, addresses_of
from tests.llama_servers import real_llama_server

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    return LOOPS[request.param]


@pytest.fixture
def bus() -> Iterator[RoutedBus]:
    with a_proxy() as proxy:
        yield addresses_of(proxy)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def replace(file: Path, text: str) -> None:
    """Put a file in place as apply does."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition with a deadline."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for lies outside of the loop
            await asyncio.sleep(0.01)


async def answered(client: AsyncClient, is_it: Callable[[Mapping[str, Any]], bool]) -> None:
    """Ask until a reply is as wanted, with a deadline."""
    async with asyncio.timeout(10):
        while not is_it(await client.request("Hi.", timeout_s=10)):  # noqa: ASYNC110 - replies change, no event does
            await asyncio.sleep(0.01)


@dataclass
class Router:
    """A running router and its files."""

    folder: Path
    bus: RoutedBus
    stop: Stop
    servers: list[HttpServer]
    task: asyncio.Task[None] | None = None

    @property
    def routing(self) -> Path:
        return self.folder / "routing.json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].ports[0]}"

    def write(self, *models: RoutedModel, **more: Any) -> None:
        replace(self.routing, self.table(*models, **more).model_dump_json())

    def table(self, *models: RoutedModel, **more: Any) -> RoutingTable:
        profile_file = str(self.folder / "gpu_profile")
        bridge = RoutedBridge(host="127.0.0.1", ports=(0,))
        return a_routing_table(*models, profile_file=profile_file, bus=self.bus, bridge=bridge, **more)

    def choose(self, profile: str) -> None:
        replace(self.folder / "gpu_profile", f"{profile}\n")

    def start(self) -> asyncio.Event:
        pool, ready = UpstreamPool(), asyncio.Event()

        @asynccontextmanager
        async def serve_http(desk: Any, host: str, ports: Any) -> AsyncIterator[None]:
            async with serve(desk, pool, host=host, ports=ports) as server:
                self.servers.append(server)
                yield

        outside = Outside(
            watch=lambda path: WatchedFile(Path(path)),
            connect_bus=BusPeer,
            serve_http=serve_http,
            upstreams=pool,
            clock=SystemClock(),
            open_direct=DirectEndpoint,
            open_journal=lambda path: LineJournal(Path(path)),
        )
        running = run_router(str(self.routing), outside, stop=self.stop, on_ready=ready.set)
        self.task = asyncio.create_task(running)
        return ready

    async def finish(self) -> None:
        assert self.task is not None
        async with asyncio.timeout(20):
            await self.task


@asynccontextmanager
async def a_router(folder: Path, bus: RoutedBus, *models: RoutedModel, **more: Any) -> AsyncIterator[Router]:
    """Run a router until the block ends, cleanly."""
    router = Router(folder, bus, Stop(), [])
    router.write(*models, **more)
    router.choose("cpu_only")
    ready = router.start()
    assert router.task is not None
    await asyncio.wait([router.task, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    if router.task.done():
        router.task.result()
    try:
        yield router
    finally:
        if not router.stop.wanted.is_set():
            router.stop.request()
        await router.finish()


def served_by(port: int, id: str = "small", profile: str = "cpu_only") -> RoutedModel:
    return a_routed_model(id, an_upstream(f"{id}-{profile}", port=port, parallel=64))


@pytest.mark.real_model
def test_a_question_on_the_bus_is_answered_by_a_real_model(run: Run, bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            real_llama_server(tmp_path) as port,
            a_router(tmp_path, bus, served_by(port)),
            a_client(bus) as client,
        ):
            reply = await client.request(
                "What is the capital of France?", purpose="fast", max_tokens=16, temperature=0, timeout_s=60
            )
            assert reply["success"], reply
            assert len(reply["response"]) > 3
            metadata = reply["metadata"]
            assert (metadata["model_id"], metadata["profile"]) == ("small", "cpu_only")
            assert metadata["allocation_id"].startswith("alloc_")
            assert 0 < metadata["ttft_ms"] < 60_000
            assert metadata["tokens_per_sec"] > 0
            assert 1 < metadata["completion_tokens"] <= 16
            assert metadata["total_tokens"] == metadata["prompt_tokens"] + metadata["completion_tokens"]
            replies = await asyncio.gather(
                *(client.request(f"Count to {n}.", max_tokens=8, temperature=0, timeout_s=60) for n in range(4))
            )
            assert all(reply["success"] for reply in replies)

    run(main())


def test_both_faces_answer_from_one_desk(run: Run, bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer("Four.") as fake,
            a_router(tmp_path, bus, served_by(fake.port)) as router,
            a_client(bus) as client,
            httpx.AsyncClient(base_url=router.url) as http,
        ):
            assert (await client.request("2+2?", timeout_s=10))["response"] == "Four."
            body = {"model": "small", "messages": [{"role": "user", "content": "2+2?"}]}
            answer = (await http.post("/v1/chat/completions", json=body)).json()
            assert answer["choices"][0]["message"]["content"] == "Four."
            assert len(fake.requests) == 2

    run(main())


@pytest.mark.parametrize("way", ["direct", "bus"])
def test_pieces_reach_the_client_and_a_stream_that_breaks_off_says_so(bus: RoutedBus, tmp_path: Path, way: str) -> None:
    served = bus.model_copy(update={"direct": f"ipc://{tmp_path}/direct"})
    used = served if way == "direct" else bus

    async def main() -> None:
        async with (
            FakeLlamaServer("one two three") as fake,
            a_router(tmp_path, served, served_by(fake.port)),
            a_client(used) as client,
        ):
            stream = client.stream("Count.")
            assert [piece async for piece in stream] == ["one ", "two ", "three"]
            assert stream.answer is not None
            assert stream.answer.metadata["completion_tokens"] == 3
            fake.faults.append(DieMidStream(2))
            with pytest.raises(RefusedError) as raised:
                _ = [piece async for piece in client.stream("Count.")]
            assert raised.value.partial == "one two "
            assert (await client.ask("Still there?", timeout_s=10)).text == "one two three"

    asyncio.run(main())


def test_http_is_served_where_there_is_no_bus(tmp_path: Path) -> None:
    nowhere = RoutedBus(xsub="tcp://127.0.0.1:1", xpub="tcp://127.0.0.1:1")

    async def main() -> None:
        async with (
            FakeLlamaServer() as fake,
            a_router(tmp_path, nowhere, served_by(fake.port)) as router,
            httpx.AsyncClient(base_url=router.url) as http,
        ):
            assert (await http.get("/v1/models")).status_code == 200

    asyncio.run(main())


def test_a_new_table_drops_none_of_16_slow_requests(
    run: Run, bus: RoutedBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer("old") as old,
            FakeLlamaServer("new") as new,
            a_router(tmp_path, bus, served_by(old.port)) as router,
            a_client(bus) as client,
        ):
            old.gate.clear()
            asked = [asyncio.create_task(client.request("Hi.", timeout_s=30)) for _ in range(16)]
            await until(lambda: len(old.requests) == 16)
            router.write(served_by(new.port, "other"))
            await until(lambda: "took up a new routing table" in caplog.text)
            assert (await client.request("Hi.", timeout_s=10))["response"] == "new"
            assert not any(task.done() for task in asked)
            old.gate.set()
            replies = await asyncio.gather(*asked)
            assert [reply["response"] for reply in replies] == ["old"] * 16

    run(main())


def test_under_a_stream_of_requests_reloads_refuse_nobody(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer("one") as one,
            FakeLlamaServer("two") as two,
            a_router(tmp_path, bus, served_by(one.port, "one")) as router,
            a_client(bus) as client,
        ):
            answers: list[str] = []
            while answers.count("two") < 20 or answers.count("one") < 20:
                if len(answers) % 50 == 25:
                    name, port = ("two", two.port) if answers[-1] == "one" else ("one", one.port)
                    router.write(served_by(port, name), served_by(port, "other"))
                answers.append((await client.request("Hi.", timeout_s=10))["response"])
                await asyncio.sleep(0.002)  # the pace of the requests
            assert set(answers) == {"one", "two"}

    asyncio.run(main())


def test_a_broken_table_is_not_taken_up(bus: RoutedBus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer() as fake,
            a_router(tmp_path, bus, served_by(fake.port)) as router,
            a_client(bus) as client,
        ):
            replace(router.routing, '{"version": 1')
            await until(lambda: "KI813" in caplog.text)
            router.routing.unlink()
            await until(lambda: caplog.text.count("KI813") == 2)
            assert (await client.request("Hi.", timeout_s=10))["success"]
            router.write(served_by(fake.port, "renamed"))
            await until(lambda: "took up a new routing table" in caplog.text)
            assert (await client.request("Hi.", timeout_s=10))["metadata"]["model_id"] == "renamed"

    asyncio.run(main())


def test_other_addresses_in_a_new_table_ask_for_a_restart(
    bus: RoutedBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake, a_router(tmp_path, bus, served_by(fake.port)) as router:
            router.bus = RoutedBus(xsub="tcp://127.0.0.1:1", xpub="tcp://127.0.0.1:1")
            router.write(served_by(fake.port))
            await until(lambda: "KI817" in caplog.text)

    asyncio.run(main())


def test_another_profile_moves_requests_to_its_instances(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeLlamaServer("cpu") as cpu, FakeLlamaServer("max") as gpu:
            model = a_routed_model(
                "small", an_upstream("small-max", port=gpu.port), an_upstream("small-cpu_only", port=cpu.port)
            )
            async with a_router(tmp_path, bus, model) as router, a_client(bus) as client:
                assert (await client.request("Hi.", timeout_s=10))["response"] == "cpu"
                router.choose("max")
                await answered(client, lambda reply: reply["response"] == "max")

    asyncio.run(main())


def test_a_crashed_instance_comes_back(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer() as fake,
            a_router(tmp_path, bus, served_by(fake.port)),
            a_client(bus) as client,
        ):
            # A kept connection that closes is tried again on a fresh one, and two attempts more are made.
            fake.faults.extend([DieBeforeAnswer(), DieBeforeAnswer()])
            assert (await client.request("Hi.", timeout_s=10))["success"]
            await fake.stop()
            assert not (await client.request("Hi.", timeout_s=10))["success"]
            await fake.start(fake.port)
            await answered(client, lambda reply: bool(reply["success"]))

    asyncio.run(main())


def test_health_is_published_when_it_changes(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake, BusPeer(bus, ["llm.health"]) as listener:
            model = a_routed_model(
                "small", an_upstream("small-max", port=fake.port), an_upstream("small-cpu_only", port=fake.port)
            )
            async with a_router(tmp_path, bus, model) as router, a_client(bus) as client:
                assert (await client.request("Hi.", timeout_s=10))["success"]
                router.choose("max")
                async with asyncio.timeout(10):
                    health: dict[str, Any] = {}
                    while not any(runtime["status"] == "healthy" for runtime in health.get("runtimes", [])):
                        _, payload = await listener.receive()
                        health = json.loads(payload)["facts"]
                        health = health if health["gpu_profile"] == "max" else {}
                assert health["runtimes"][0]["profile"] == "small-max"

    asyncio.run(main())


def test_stopping_finishes_what_is_in_flight_and_refuses_what_comes(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer() as fake,
            a_router(tmp_path, bus, served_by(fake.port)) as router,
            a_client(bus) as client,
        ):
            fake.gate.clear()
            asked = [asyncio.create_task(client.request("Hi.", timeout_s=30)) for _ in range(8)]
            await until(lambda: len(fake.requests) == 8)
            router.stop.request()
            assert (await client.request("Too late?", timeout_s=10))["error"]["code"] == "KI812"
            fake.gate.set()
            assert all(reply["success"] for reply in await asyncio.gather(*asked))
            await router.finish()

    asyncio.run(main())


def test_a_second_request_to_stop_cuts_and_tells_so(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            FakeLlamaServer() as fake,
            a_router(tmp_path, bus, served_by(fake.port)) as router,
            a_client(bus) as client,
        ):
            fake.gate.clear()
            asked = asyncio.create_task(client.request("Hi.", timeout_s=30))
            await until(lambda: len(fake.requests) == 1)
            router.stop.request()
            router.stop.request()
            async with asyncio.timeout(5):
                await router.finish()
            assert (await asked)["error"]["code"] == "KI812"

    asyncio.run(main())


def test_without_a_table_the_router_does_not_start(bus: RoutedBus, tmp_path: Path) -> None:
    async def main() -> None:
        router = Router(tmp_path, bus, Stop(), [])
        router.start()
        with pytest.raises(ProblemsError) as raised:
            await router.finish()
        assert [problem.code for problem in raised.value.problems] == ["KI813"]

    asyncio.run(main())
