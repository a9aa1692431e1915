"""Asking other hosts: their paths, names, credentials and TLS, and noticing that one has vanished or hangs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kloros_infra.adapters.credentials import CredentialFolder
from kloros_infra.daemon import http_problems
from kloros_infra.daemon.exchange import Exchange, Patience
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.daemon.upstream_connection import VANISHED_MS
from kloros_infra.daemon.upstream_request import get_request, place_of, post_head, post_request
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.router.effects import Target
from kloros_infra.router.events import Outcome, Verdict
from tests.factories import a_target
from tests.fakes.scripted_upstream import STREAM_HEAD, Move, ScriptedUpstream, chunked, plain
from tests.needed import need
from tests.unit.daemon.test_upstream import Collected

QUICK = UpstreamLimits(connect_s=0.5, tls_connect_s=2.0, doubt_s=0.1, sweep_s=0.01)
PATIENT = Patience(first_byte_s=30.0, idle_s=30.0, doubt_s=0.1)


def a_remote(port: int = 11434, **more: object) -> Target:
    return Target("rig/code", UpstreamKind.OLLAMA, "127.0.0.1", port, is_local=False, **more)  # type: ignore[arg-type]  # what a test wants of it


async def ask(pool: UpstreamPool, target: Target, body: bytes = b"{}") -> Collected:
    sink = Collected()
    exchange = pool.exchange(target, b"/v1/chat/completions", body, sink, patience=PATIENT)
    assert isinstance(exchange, Exchange)
    async with asyncio.timeout(5):
        await sink.ended.wait()
    return sink


@pytest.mark.parametrize(
    ("path", "asked_for"),
    [
        ("", b"/v1/chat/completions"),
        ("/v1", b"/v1/chat/completions"),
        ("/api/v1/", b"/api/v1/chat/completions"),
        ("/llm", b"/llm/v1/chat/completions"),
    ],
)
def test_a_hosts_paths_begin_as_it_says(path: str, asked_for: bytes) -> None:
    request = post_request(post_head(a_remote(path=path), b"/v1/chat/completions", "s3cret"), b"{}")
    assert request.startswith(
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nAuthorization: Bearer s3cret\r\n" % asked_for
    )
    assert request.endswith(b"Content-Length: 2\r\n\r\n{}")


def test_an_instance_of_this_machine_gets_no_credential() -> None:
    assert b"Authorization" not in post_head(a_target(), b"/v1/chat/completions")


def test_addresses_of_ipv6_are_bracketed() -> None:
    target = Target("rig/code", UpstreamKind.OPENAI, "fd00::7", 443, is_local=False)
    assert get_request(target, b"/health") == b"GET /health HTTP/1.1\r\nHost: [fd00::7]:443\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://rig:8888/status", ("rig", 8888, False, b"/status")),
        ("https://rig", ("rig", 443, True, b"/")),
        ("http://rig/a?b=c", ("rig", 80, False, b"/a?b=c")),
    ],
)
def test_a_url_is_a_place(url: str, place: tuple[str, int, bool, bytes]) -> None:
    target, path = place_of(url)
    assert (target.address, target.port, target.is_tls, path) == place


def test_a_credential_is_sent_and_one_that_is_missing_is_a_fault_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "rig").write_text("s3cret\n")
    (tmp_path / "torn").write_text("two\nlines")

    async def test() -> None:
        async with ScriptedUpstream((plain(b"{}"),)) as upstream:
            pool = UpstreamPool(QUICK, credentials=CredentialFolder(tmp_path))
            assert (await ask(pool, a_remote(upstream.port, credential="rig"))).body == b"{}"
            assert b"\r\nAuthorization: Bearer s3cret\r\n" in upstream.requests[0]
            for name in ("none", "torn"):
                target = a_remote(upstream.port, credential=name)
                error = pool.exchange(target, b"/", b"", Collected(), patience=PATIENT)
                assert isinstance(error, UpstreamError)
                assert (error.problem.code, error.outcome) == ("KI829", Outcome.UNREACHED)
                assert "s3cret" not in str(error)
                assert await pool.check(target, b"/health", timeout_s=1) is Verdict.FAILING
            assert len(upstream.requests) == 1
            nothing = UpstreamPool(QUICK).exchange(a_remote(credential="rig"), b"/", b"", Collected(), patience=PATIENT)
            assert isinstance(nothing, UpstreamError)
            await pool.close()

    asyncio.run(test())


def test_the_kernel_watches_the_way_to_another_host_and_not_to_this_one() -> None:
    def options(pool: UpstreamPool) -> tuple[int, int]:
        (connection,) = [one for kept in pool._free.values() for one in kept]
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        watched = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), watched

    async def test() -> None:
        for target, expected in ((a_remote, (1, VANISHED_MS)), (lambda port: a_target(port=port), (0, 0))):
            async with ScriptedUpstream((plain(b"{}"),)) as upstream:
                pool = UpstreamPool(QUICK)
                await ask(pool, target(upstream.port))
                assert options(pool) == expected
                await pool.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("answer", "is_on"),
    [
        (plain(b'{"enabled": true}'), True),
        (plain(b'{"enabled": false}'), False),
        (plain(b"{}"), True),
        (plain(b"oops"), True),
        (plain(b'{"enabled": false}', status=b"500 X"), True),
        (b"", True),
    ],
)
def test_a_toggle_switches_off_and_nothing_else_does(answer: bytes, is_on: bool) -> None:
    async def test() -> None:
        async with ScriptedUpstream((answer, Move.CLOSE)) as upstream:
            pool = UpstreamPool(QUICK)
            assert await pool.is_switched_on(f"http://127.0.0.1:{upstream.port}/status", timeout_s=1) is is_on
            await pool.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("play", "outcome"),
    [((Move.HANG,), Outcome.SILENT), ((STREAM_HEAD, chunked(b"data: 1\n\n"), Move.HANG), Outcome.STALLED)],
)
def test_silence_is_doubted_again_and_again_and_given_up_when_its_health_fails(
    play: tuple[bytes | float | Move, ...], outcome: Outcome
) -> None:
    async def test() -> None:
        async with ScriptedUpstream(play) as upstream:
            pool, target, doubted = UpstreamPool(QUICK), a_remote(upstream.port), list[str]()
            pool.watch_silence(lambda target: doubted.append(target.name))
            asked = asyncio.create_task(ask(pool, target))
            while len(doubted) < 3:  # noqa: ASYNC110 - with the deadline of the test
                await asyncio.sleep(0.01)
            assert set(doubted) == {target.name}
            pool.give_up("somebody else")
            pool.give_up("rig")
            error = (await asked).error
            assert error is not None
            assert (error.problem.code, error.outcome) == ("KI828", outcome)
            await pool.close()

    asyncio.run(asyncio.wait_for(test(), 5))


def test_an_answer_that_keeps_coming_is_never_doubted() -> None:
    play: list[bytes | float | Move] = [STREAM_HEAD]
    for _ in range(20):
        play += [chunked(b"data: 1\n\n"), 0.02]

    async def test() -> None:
        async with ScriptedUpstream([*play, b"0\r\n\r\n"]) as upstream:
            pool, doubted = UpstreamPool(QUICK), list[str]()
            pool.watch_silence(lambda target: doubted.append(target.name))
            assert (await ask(pool, a_remote(upstream.port))).error is None
            assert doubted == []
            await pool.close()

    asyncio.run(test())


def test_a_host_that_drops_everything_is_known_within_the_time_to_connect() -> None:
    async def test() -> None:
        # A full backlog is what a firewall that drops looks like from here.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
            port = deaf.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            pool, begun = UpstreamPool(QUICK), asyncio.get_running_loop().time()
            error = (await ask(pool, a_remote(port))).error
            assert error is not None
            assert (error.problem.code, error.outcome) == ("KI820", Outcome.UNREACHED)
            assert asyncio.get_running_loop().time() - begun < QUICK.connect_s + 0.3
            await pool.close()
            for filler in fillers:
                filler.close()

    asyncio.run(test())


def a_certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for `localhost` that nobody has signed."""
    need(shutil.which("openssl") is not None, "openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def a_tls_server(certificate: ssl.SSLContext) -> AsyncIterator[int]:
    """Answer every request over TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(plain(b"{}", head=b"Connection: close\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_tls_asks_only_whom_it_can_check(tmp_path: Path) -> None:
    certificate = a_certificate(tmp_path)

    async def test() -> None:
        async with a_tls_server(certificate) as port:
            target = Target("rig/code", UpstreamKind.OPENAI, "localhost", port, is_tls=True, is_local=False)
            trusting = UpstreamPool(
                QUICK, new_tls=lambda: ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
            )
            assert (await ask(trusting, target)).body == b"{}"
            wary = UpstreamPool(QUICK)
            error = (await ask(wary, target)).error
            assert error is not None
            assert (error.problem.code, error.outcome) == ("KI820", Outcome.UNREACHED)
            assert "self-signed certificate" in error.problem.detail
            other = (await ask(trusting, target._replace(address="127.0.0.1"))).error
            assert other is not None
            assert "certificate" in other.problem.detail
            await trusting.close()
            await wary.close()

    asyncio.run(test())


HOST = Target("rig/code", UpstreamKind.OPENAI, "10.0.0.9", 443, is_local=False)


@pytest.mark.parametrize(
    "problem",
    [
        http_problems.cannot_connect(HOST, "refused"),
        http_problems.no_first_byte(HOST, 1.0),
        http_problems.answer_stalled(HOST, 1.0),
        http_problems.answer_cut_off(HOST),
        http_problems.not_http(HOST, "garbage"),
        http_problems.not_alive(HOST, 1.0),
        http_problems.stream_incomplete(HOST),
        *(http_problems.upstream_refused(HOST, status, "no") for status in (400, 401, 403, 404, 429, 500, 503)),
    ],
    ids=lambda problem: problem.code,
)
def test_a_host_is_not_taken_for_an_instance_of_this_machine(problem: Diagnostic) -> None:
    words = f"{problem.summary} {problem.detail} {problem.hint}"
    assert not [word for word in ("llama-server", "unit", "instance hangs", "the instance") if word in words]


def test_an_instance_has_a_unit_to_look_at() -> None:
    problem = http_problems.cannot_connect(a_target(), "refused")
    assert (problem.summary, "the unit" in problem.hint) == ("Cannot connect to the instance", True)
