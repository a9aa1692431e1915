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

from kloros_infra.daemon.exchange import Exchange, Patience, ResponseHead
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.daemon.upstream_connection import STALE_WITHIN_S
from kloros_infra.router.effects import Target
from kloros_infra.router.events import Outcome, Verdict
from tests.factories import a_send, a_target
from tests.fakes.hearer import FakeHearer, completed
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Move, Play, ScriptedUpstream, chunked, plain
from tests.fakes.stalling_loop import run_stalling, the_loop

RECORDED = Path(__file__).parent / "recorded"
QUICK = UpstreamLimits(connect_s=0.5, whole_answer_s=0.2, doubt_s=0.05, sweep_s=0.01)
SHORT = Patience(first_byte_s=0.2, idle_s=0.2, doubt_s=0.05)
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

    def on_whole(self, content_type: bytes, body: bytes) -> None:
        self.on_head(ResponseHead(200, content_type, len(body), b""))
        self.on_body(body, is_last=True)

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
        self.target: Target = a_target(port=scripted.port)

    def begin(self, sink: Collected) -> Exchange:
        exchange = self.pool.exchange(self.target, b"/x", b"{}", sink, patience=SHORT)
        assert isinstance(exchange, Exchange)
        return exchange

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
        exchange = bench.begin(sink)
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
        assert (error.problem.code, error.outcome, error.started) == ("KI823", Outcome.UNREACHED, False)
        assert len(bench.scripted.requests) == 2

    run(test, (plain(b"{}"),), (STALE_WITHIN_S + 0.05, Move.RESET), (plain(b"[]"),))


def test_a_fresh_connection_that_dies_is_not_retried() -> None:
    async def test(bench: Bench) -> None:
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.outcome, error.started) == ("KI823", Outcome.UNREACHED, False)
        assert len(bench.scripted.requests) == 1

    run(test, (Move.CLOSE,), (plain(b"{}"),))


def test_after_the_first_byte_nothing_is_retried() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask()
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.outcome, error.started) == ("KI823", Outcome.BROKEN, True)
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
        assert (error.problem.code, error.outcome) == ("KI824", Outcome.BROKEN)
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
    ("play", "code", "outcome"),
    [
        ((Move.HANG,), "KI821", Outcome.SILENT),
        ((STREAM_HEAD, chunked(b"data: 1\n\n"), Move.HANG), "KI822", Outcome.STALLED),
    ],
    ids=["before the first byte", "between two"],
)
def test_silence_has_an_end(play: Play, code: str, outcome: Outcome) -> None:
    async def test(bench: Bench) -> None:
        begun = asyncio.get_running_loop().time()
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.outcome) == (code, outcome)
        assert asyncio.get_running_loop().time() - begun < SHORT.idle_s + 0.1
        await bench.scripted.departed.wait()

    run(test, play)


def test_cancelling_closes_the_connection() -> None:
    async def test(bench: Bench) -> None:
        sink = Collected()
        exchange = bench.begin(sink)
        await sink.begun.wait()
        exchange.cancel()
        exchange.cancel()
        async with asyncio.timeout(0.5):
            await bench.scripted.departed.wait()
        assert sink.error is None

    run(test, (STREAM_HEAD, chunked(b"data: 1\n\n"), Move.HANG))


def test_cancelling_while_connecting_sends_nothing() -> None:
    async def test(bench: Bench) -> None:
        bench.begin(Collected()).cancel()
        assert (await bench.ask()).body == b"{}"
        assert len(bench.scripted.requests) == 1

    run(test, (plain(b"{}"),))


def test_pausing_holds_the_upstream_back() -> None:
    size = 8_000_000

    async def test(bench: Bench) -> None:
        sink = Collected()
        exchange = bench.begin(sink)
        await sink.begun.wait()
        exchange.pause()
        await asyncio.sleep(SHORT.idle_s + 0.2)
        assert not sink.ended.is_set()
        assert len(sink.body) < size
        exchange.resume()
        async with asyncio.timeout(5):
            await sink.ended.wait()
        assert len(sink.body) == size

    run(test, (plain(b"a" * size),))


def test_nobody_listens() -> None:
    async def test(bench: Bench) -> None:
        await bench.scripted.__aexit__()
        error = (await bench.ask()).error
        assert error is not None
        assert (error.problem.code, error.outcome, error.started) == ("KI820", Outcome.UNREACHED, False)
        assert "refused" in error.problem.detail
        assert await bench.pool.check(bench.target, b"/health", timeout_s=1) is Verdict.FAILING
        assert await bench.pool.properties(bench.target, timeout_s=1) == {}
        await bench.scripted.__aenter__()

    run(test)


# complete, check, properties


def test_a_completion_is_added_up_and_timed() -> None:
    async def test() -> None:
        async with FakeLlamaServer("one two three", reasoning="hm") as server:
            pool = UpstreamPool(QUICK)
            target = a_target(port=server.port)
            done = await completed(pool, a_send(target=target), BODY, limit_s=5)
            assert (done.text, done.reasoning, done.finish_reason) == ("one two three", "hm", "stop")
            assert (done.prompt_tokens, done.completion_tokens, done.tokens_per_s) == (1, 3, 100.0)
            assert 0 <= done.ttft_s <= done.duration_s < 5
            assert server.requests[0]["stream"] is True
            assert await pool.check(target, b"/health", timeout_s=1) is Verdict.HEALTHY
            server.is_loading = True
            assert await pool.check(target, b"/health", timeout_s=1) is Verdict.LOADING
            assert await pool.check(target, b"/nothing", timeout_s=1) is Verdict.FAILING
            await pool.close()

    asyncio.run(test())


def test_a_recorded_stream_gives_the_upstreams_own_rate() -> None:
    async def test(bench: Bench) -> None:
        done = await completed(bench.pool, a_send(target=bench.target, first_byte_s=0.2, stall_s=0.2), BODY, limit_s=2)
        assert (done.text, done.completion_tokens) == ("I'm glad you", 4)
        assert done.tokens_per_s > 10

    run(test, (STREAM_HEAD + chunked((RECORDED / "chat.sse").read_bytes()) + END,))


def test_a_single_token_is_rated_by_our_own_clock() -> None:
    events = (
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        b'data: {"usage":{"completion_tokens":1},"timings":{"predicted_n":1,"predicted_per_second":1000000}}\n\n'
    )

    async def test(bench: Bench) -> None:
        done = await completed(bench.pool, a_send(target=bench.target, first_byte_s=0.2, stall_s=0.2), BODY, limit_s=2)
        assert done.tokens_per_s < 1000

    run(test, (STREAM_HEAD, chunked(events), 0.05, chunked(b"data: [DONE]\n\n") + END))


@pytest.mark.parametrize(
    ("left_s", "is_stream", "first_byte_s"),
    [(40.0, True, 10.0), (40.0, False, 40.0), (3.2, False, 4.0), (5000.0, False, 900.0)],
)
def test_the_first_byte_is_due_for_a_stream_and_a_whole_answer_takes_as_long_as_its_request(
    left_s: float, is_stream: bool, first_byte_s: float
) -> None:
    send = a_send(first_byte_s=10.0, left_s=left_s)
    assert UpstreamPool().patience(send, is_stream=is_stream).first_byte_s == first_byte_s


COMPLETION_FAULTS: dict[str, tuple[Play, str, str]] = {
    "refusal": ((plain(b'{"error":{"message":"too long"}}', status=b"400 Bad Request"),), "KI825", "too long"),
    "refusal that is no JSON": ((plain(b"oops", status=b"500 X"),), "KI825", "no message"),
    "error in the stream": (
        (STREAM_HEAD + chunked(b'data: {"error":{"code":500,"message":"boom"}}\n\n') + END,),
        "KI825",
        "500: boom",
    ),
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
            await completed(bench.pool, a_send(target=bench.target, first_byte_s=0.2, stall_s=0.2), BODY, limit_s=2)
        assert caught.value.problem.code == code
        assert words in caught.value.problem.detail

    run(test, play)


def test_a_chat_that_is_cancelled_stops_the_upstream() -> None:
    async def test(bench: Bench) -> None:
        hearer = FakeHearer()
        call = bench.pool.chat(a_send(target=bench.target, first_byte_s=0.2, stall_s=0.2), BODY, hearer)
        assert not isinstance(call, UpstreamError)
        async with asyncio.timeout(1):
            await hearer.begun.wait()
        call.cancel()
        async with asyncio.timeout(0.5):
            await bench.scripted.departed.wait()
        assert not hearer.outcome.done()

    keep_talking: list[bytes | float | Move] = [STREAM_HEAD]
    for _ in range(100):
        keep_talking += [chunked(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'), 0.02]
    run(test, keep_talking)


def test_properties_are_read() -> None:
    async def test(bench: Bench) -> None:
        assert await bench.pool.properties(bench.target, timeout_s=1) == {"chat_template": "x"}
        assert await bench.pool.properties(bench.target, timeout_s=1) == {}
        assert await bench.pool.properties(bench.target, timeout_s=0.05) == {}

    run(test, (plain(b'{"chat_template":"x"}'),), (plain(b"oops"),))


def test_a_pause_of_this_process_is_not_held_against_a_target() -> None:
    async def test() -> None:
        async with a_bench((STREAM_HEAD + chunked(b"a"), 0.1, chunked(b"b") + END)) as bench:
            sink = Collected()
            bench.begin(sink)
            async with asyncio.timeout(5):
                await sink.begun.wait()
            the_loop().lost_s += 38.0
            async with asyncio.timeout(5):
                await sink.ended.wait()
            assert (sink.error, sink.body) == (None, b"ab")

    run_stalling(test())
