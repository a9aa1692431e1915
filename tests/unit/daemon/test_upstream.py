"""The client to llama-server, against an upstream that does exactly what each test says."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool, get_request
from kloros_infra.daemon.upstream_connection import STALE_WITHIN_S, ResponseHead
from kloros_infra.ir.routing import Upstream
from tests.factories import an_upstream
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Move, Play, ScriptedUpstream, chunked, plain

RECORDED = Path(__file__).parent / "recorded"
QUICK = UpstreamLimits(connect_s=0.5, stream_first_byte_s=0.2, answer_first_byte_s=0.2, idle_s=0.2, sweep_s=0.01)
BODY = {"messages": [{"role": "user", "content": "hi"}]}


class Collected:
    """Takes an answer and waits for its end."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.error: UpstreamError | None = None
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def on_head(self, head: ResponseHead) -> None:
        self.head = head

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        self.pieces.append(data)
        self.begun.set()
        if is_last:
            self.ended.set()

    def on_failure(self, error: UpstreamError) -> None:
        self.error = error
        self.ended.set()


class Bench:
    """A pool and the upstream that it calls."""

    def __init__(self, pool: UpstreamPool, scripted: ScriptedUpstream) -> None:
        self.pool = pool
        self.scripted = scripted
        self.upstream: Upstream = an_upstream(port=scripted.port)

    def begin(self, sink: Collected) -> None:
        self.pool.exchange(self.upstream, get_request(self.upstream, b"/x"), sink, is_stream=True)

    async def ask(self) -> Collected:
        sink = Collected()
        self.begin(sink)
        async with asyncio.timeout(5):
            await sink.ended.wait()
        return sink


@asynccontextmanager
async def a_bench(*plays: Play) -> AsyncIterator[Bench]:
    pool = UpstreamPool(QUICK)
    async with ScriptedUpstream(*plays) as scripted:
        try:
            yield Bench(pool, scripted)
        finally:
            await pool.close()


def run(test: Callable[[Bench], Awaitable[None]], *plays: Play) -> None:
    async def within() -> None:
        async with a_bench(*plays) as bench:
            await test(bench)

    asyncio.run(within())


def test_connections_are_kept() -> None:
    async def test(bench: Bench) -> None:
        for body in (b"{}", b"[]"):
            assert (await bench.ask()).body == body
        assert bench.scripted.connections == 1

    run(test, (plain(b"{}"),), (plain(b"[]"),))


def test_an_exchange_that_is_over_lets_go_of_its_sink() -> None:
    async def test(bench: Bench) -> None:
        sink = Collected()
        exchange = bench.pool.exchange(bench.upstream, get_request(bench.upstream, b"/x"), sink, is_stream=True)
        assert sink in gc.get_referents(exchange)
        async with asyncio.timeout(5):
            await sink.ended.wait()
        assert sink not in gc.get_referents(exchange)

    run(test, (plain(b"{}"),))


def test_a_connection_that_says_close_is_not_kept() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        await bench.ask()
        assert bench.scripted.connections == 2

    run(test, (plain(b"{}", head=b"Connection: close\r\n"),), (plain(b"{}"),))


def test_a_stream_sliced_to_single_bytes_is_the_same_stream() -> None:
    events = [b"data: %d\n\n" % number for number in range(40)]
    raw = STREAM_HEAD + b"".join(chunked(event) for event in events) + END

    async def test(bench: Bench) -> None:
        sink = await bench.ask()
        assert hashlib.sha256(sink.body).digest() == hashlib.sha256(b"".join(events)).digest()
        assert sink.head is not None
        assert (sink.head.status, sink.head.length, sink.head.content_type) == (200, None, b"text/event-stream")

    cuts = random.Random(1)  # noqa: S311 - the same slices every time
    parts: list[bytes | float | Move] = []
    rest = raw
    while rest:
        size = cuts.randint(1, 7)
        parts += [rest[:size], 0.0]
        rest = rest[size:]
    run(test, parts)


def test_a_stale_connection_is_replaced_once() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        assert (await bench.ask()).body == b"[]"
        assert len(bench.scripted.requests) == 3

    run(test, (plain(b"{}"),), (Move.RESET,), (plain(b"[]"),))


def test_a_reused_connection_that_dies_at_work_is_not_asked_again() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.reached, error.started) == ("KI823", False, False)
        assert len(bench.scripted.requests) == 2

    run(test, (plain(b"{}"),), (STALE_WITHIN_S + 0.05, Move.RESET), (plain(b"[]"),))


def test_a_fresh_connection_that_dies_is_not_retried() -> None:
    async def test(bench: Bench) -> None:
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.reached, error.started) == ("KI823", False, False)
        assert len(bench.scripted.requests) == 1

    run(test, (Move.CLOSE,), (plain(b"{}"),))


def test_after_the_first_byte_nothing_is_retried() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.started) == ("KI823", True)
        assert len(bench.scripted.requests) == 2

    run(test, (plain(b"{}"),), (b"HTTP/1.1 2", Move.RESET), (plain(b"{}"),))


GARBAGE: dict[str, Play] = {
    "no HTTP": (b"\x00\x01 this is not HTTP\r\n\r\n",),
    "bad chunk": (STREAM_HEAD + b"zz\r\n",),
    "bad chunk after a good one": (STREAM_HEAD + chunked(b"data: 1\n\n") + b"zz\r\n",),
    "two responses": (plain(b"{}") + plain(b"[]"),),
    "bytes after the response": (plain(b"{}") + b"junk\r\n",),
    "interim response": (b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"{}"),),
    "other protocol": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n{}",),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_fails_and_does_not_poison_the_next(name: str) -> None:
    async def test(bench: Bench) -> None:
        error = (await bench.ask()).error
        assert error is not None
        assert error.problem.code == "KI824"
        assert (await bench.ask()).body == b"ok"
        assert bench.scripted.connections == 2

    run(test, GARBAGE[name], (plain(b"ok"),))


def test_unasked_bytes_close_an_idle_connection() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        await bench.scripted.departed.wait()
        assert (await bench.ask()).body == b"ok"

    run(test, (plain(b"{}"), 0.05, b"HTTP/1.1 408 Request Timeout\r\n\r\n", Move.HANG), (plain(b"ok"),))


@pytest.mark.parametrize(
    ("play", "code"),
    [((Move.HANG,), "KI821"), ((STREAM_HEAD, chunked(b"data: 1\n\n"), Move.HANG), "KI822")],
    ids=["before the first byte", "between two"],
)
def test_silence_has_an_end(play: Play, code: str) -> None:
    async def test(bench: Bench) -> None:
        begun = asyncio.get_running_loop().time()
        error = (await bench.ask()).error
        assert error is not None
        assert error.problem.code == code
        assert asyncio.get_running_loop().time() - begun < QUICK.idle_s + 0.3
        await bench.scripted.departed.wait()

    run(test, play)


def test_cancelling_closes_the_connection() -> None:
    async def test(bench: Bench) -> None:
        sink = Collected()
        exchange = bench.pool.exchange(bench.upstream, get_request(bench.upstream, b"/x"), sink, is_stream=True)
        await sink.begun.wait()
        exchange.cancel()
        exchange.cancel()
        async with asyncio.timeout(0.5):
            await bench.scripted.departed.wait()
        assert sink.error is None

    run(test, (STREAM_HEAD, chunked(b"data: 1\n\n"), Move.HANG))


def test_cancelling_while_connecting_sends_nothing() -> None:
    async def test(bench: Bench) -> None:
        bench.pool.exchange(bench.upstream, b"", Collected(), is_stream=True).cancel()
        assert (await bench.ask()).body == b"{}"
        assert len(bench.scripted.requests) == 1

    run(test, (plain(b"{}"),))


def test_pausing_holds_the_upstream_back() -> None:
    size = 8_000_000

    async def test(bench: Bench) -> None:
        sink = Collected()
        exchange = bench.pool.exchange(bench.upstream, get_request(bench.upstream, b"/x"), sink, is_stream=True)
        await sink.begun.wait()
        exchange.pause()
        await asyncio.sleep(QUICK.idle_s + 0.2)
        assert not sink.ended.is_set()
        assert len(sink.body) < size
        exchange.resume()
        async with asyncio.timeout(5):
            await sink.ended.wait()
        assert len(sink.body) == size

    run(test, (plain(b"a" * size),))


def test_nobody_listens() -> None:
    async def test(bench: Bench) -> None:
        gone = an_upstream(port=bench.scripted.port)
        await bench.scripted.__aexit__()
        sink = Collected()
        bench.pool.exchange(gone, b"", sink, is_stream=False)
        await sink.ended.wait()
        assert sink.error is not None
        assert (sink.error.problem.code, sink.error.reached, sink.error.started) == ("KI820", False, False)
        assert "refused" in sink.error.problem.detail
        assert not await bench.pool.is_ready(gone, timeout_s=1)
        assert await bench.pool.properties(gone, timeout_s=1) == {}
        await bench.scripted.__aenter__()

    run(test)


# complete, is_ready, properties


def test_a_completion_is_added_up_and_timed() -> None:
    async def test() -> None:
        async with FakeLlamaServer("one two three", reasoning="hm") as server:
            pool = UpstreamPool(QUICK)
            upstream = an_upstream(port=server.port)
            done = await pool.complete(upstream, BODY, deadline_s=5)
            assert (done.text, done.reasoning, done.finish_reason) == ("one two three", "hm", "stop")
            assert (done.prompt_tokens, done.completion_tokens, done.tokens_per_s) == (1, 3, 100.0)
            assert 0 <= done.ttft_s <= done.duration_s < 5
            assert server.requests[0]["stream"] is True
            assert await pool.is_ready(upstream, timeout_s=1)
            server.is_loading = True
            assert not await pool.is_ready(upstream, timeout_s=1)
            await pool.close()

    asyncio.run(test())


def test_a_recorded_stream_gives_the_upstreams_own_rate() -> None:
    async def test(bench: Bench) -> None:
        done = await bench.pool.complete(bench.upstream, BODY, deadline_s=2)
        assert (done.text, done.completion_tokens) == ("I'm glad you", 4)
        assert done.tokens_per_s > 10

    run(test, (STREAM_HEAD + chunked((RECORDED / "chat.sse").read_bytes()) + END,))


def test_a_single_token_is_rated_by_our_own_clock() -> None:
    events = (
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        b'data: {"usage":{"completion_tokens":1},"timings":{"predicted_n":1,"predicted_per_second":1000000}}\n\n'
    )

    async def test(bench: Bench) -> None:
        done = await bench.pool.complete(bench.upstream, BODY, deadline_s=2)
        assert done.tokens_per_s < 1000

    run(test, (STREAM_HEAD, chunked(events), 0.05, chunked(b"data: [DONE]\n\n") + END))


COMPLETION_FAULTS: dict[str, tuple[Play, str, str]] = {
    "refusal": ((plain(b'{"error":{"message":"too long"}}', status=b"400 Bad Request"),), "KI825", "too long"),
    "refusal that is no JSON": ((plain(b"oops", status=b"500 X"),), "KI825", "no message"),
    "error in the stream": ((STREAM_HEAD + chunked(b'data: {"error":{"message":"boom"}}\n\n') + END,), "KI825", "boom"),
    "stream without an end": (
        (STREAM_HEAD + chunked(b'data: {"choices":[]}\n\n') + END,),
        "KI827",
        "without the event",
    ),
    "event that is no JSON": ((STREAM_HEAD + chunked(b"data: {\n\n") + END,), "KI824", "not JSON"),
    "death": ((STREAM_HEAD + chunked(b'data: {"choices":[]}\n\n'), Move.RESET), "KI823", "closed"),
    "silence": ((Move.HANG,), "KI821", "sent nothing"),
}


@pytest.mark.parametrize("name", COMPLETION_FAULTS)
def test_a_completion_that_fails_says_why(name: str) -> None:
    play, code, words = COMPLETION_FAULTS[name]

    async def test(bench: Bench) -> None:
        with pytest.raises(UpstreamError) as caught:
            await bench.pool.complete(bench.upstream, BODY, deadline_s=2)
        assert caught.value.problem.code == code
        assert words in caught.value.problem.detail

    run(test, play)


def test_the_deadline_cancels_the_upstream() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(UpstreamError) as caught:
            await bench.pool.complete(bench.upstream, BODY, deadline_s=0.1)
        assert caught.value.problem.code == "KI826"
        assert caught.value.started
        async with asyncio.timeout(0.5):
            await bench.scripted.departed.wait()

    keep_talking: list[bytes | float | Move] = [STREAM_HEAD]
    for _ in range(100):
        keep_talking += [chunked(b'data: {"choices":[]}\n\n'), 0.02]
    run(test, keep_talking)


def test_properties_are_read() -> None:
    async def test(bench: Bench) -> None:
        assert await bench.pool.properties(bench.upstream, timeout_s=1) == {"chat_template": "x"}
        assert await bench.pool.properties(bench.upstream, timeout_s=1) == {}
        assert await bench.pool.properties(bench.upstream, timeout_s=0.05) == {}

    run(test, (plain(b'{"chat_template":"x"}'),), (plain(b"oops"),))
