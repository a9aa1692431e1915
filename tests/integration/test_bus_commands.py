"""`kloros-infra bus` as a user sees it: run, look at it, follow it, publish on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from kloros_infra.adapters.bus_address import is_listening
from kloros_infra.adapters.bus_client import follow
from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.ir.layout import Layout
from tests.factories import a_routed_model, a_routing_table
from tests.fakes.router import a_proxy
from tests.free_ports import free_ports

DEADLINE_S = 60
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("KLR_")}


@pytest.fixture
def proxy() -> Iterator[BusProxy]:
    with a_proxy() as running:
        yield running


def argv(proxy: BusProxy | None, *words: str) -> list[str]:
    where = ["--xsub", proxy.xsub, "--xpub", proxy.xpub] if proxy else []
    return [sys.executable, "-m", "kloros_infra", "bus", *words, *where]


def run(
    proxy: BusProxy | None, *words: str, text: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(proxy, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        input=text,
        env=ENVIRONMENT | (environment or {}),
    )


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@contextmanager
def a_tail(proxy: BusProxy, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run `bus tail` until it is subscribed."""
    before = proxy.board.subscriptions.count
    with started(argv(proxy, "tail", *words)) as process:
        while proxy.board.subscriptions.count == before:
            assert process.poll() is None
            threading.Event().wait(0.02)
        yield process


def test_a_published_message_is_followed_with_its_envelope(proxy: BusProxy) -> None:
    with a_tail(proxy, "--json", "-n", "1", "voice.") as tail:
        assert run(proxy, "pub", "other", "{}").returncode == 0
        done = run(proxy, "pub", "voice.speak", '{"text": "Grüß Gott"}', "--ecosystem", "voice")
        assert (done.returncode, done.stdout.split(":")[0]) == (0, "Sent on voice.speak")
        seen = json.loads(line_of(tail))
        assert tail.wait(DEADLINE_S) == 0
    envelope = seen["payload"]
    assert seen["topic"] == envelope["signal"] == "voice.speak"
    assert (envelope["ecosystem"], envelope["facts"]) == ("voice", {"text": "Grüß Gott"})
    assert envelope["incident_id"].startswith("bus-pub-")
    assert list(envelope)[:4] == ["signal", "ecosystem", "intensity", "facts"]


def test_text_lines_are_short_and_cannot_steer_the_terminal(proxy: BusProxy, tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"\x1b[2J" + b"x" * 10_000)
    with a_tail(proxy) as tail:
        assert run(proxy, "pub", "topic", f"@{tmp_path / 'payload'}", "--raw").returncode == 0
        line = line_of(tail)
        assert "\x1b" not in line
        assert "  topic  10.0 kB  \N{REPLACEMENT CHARACTER}[2Jxxx" in line
        assert line.endswith("…")
        assert len(line) == 80
        tail.send_signal(signal.SIGINT)
        assert tail.wait(DEADLINE_S) == 0
        assert tail.stderr is not None
        assert tail.stderr.read() == ""


def test_what_is_published_may_come_from_standard_input(proxy: BusProxy) -> None:
    with a_tail(proxy, "--json", "topic") as tail:
        assert run(proxy, "pub", "topic", "-", "--raw", text="plain text").returncode == 0
        assert json.loads(line_of(tail))["payload"] == "plain text"


@pytest.mark.parametrize(
    ("payload", "detail"),
    [("{", "It is no JSON"), ("[1]", "no JSON object"), ("[" * 100_000, "It is no JSON"), ("NaN", "no JSON object")],
)
def test_facts_that_are_no_object_are_refused(proxy: BusProxy, payload: str, detail: str) -> None:
    done = run(proxy, "pub", "topic", payload)
    assert done.returncode == 1
    assert "KI718" in done.stderr
    assert detail in done.stderr


def test_what_is_too_large_is_refused(proxy: BusProxy) -> None:
    done = run(proxy, "pub", "topic", "-", "--raw", text="x" * (8 * 2**20 + 1))
    assert (done.returncode, "KI718" in done.stderr) == (1, True)


def test_a_missing_file_is_named(proxy: BusProxy) -> None:
    done = run(proxy, "pub", "topic", "@/nowhere/at/all")
    assert (done.returncode, "/nowhere/at/all" in done.stderr) == (1, True)


def test_status_shows_topics_and_peers(proxy: BusProxy) -> None:
    with a_tail(proxy, "llm."):
        assert run(proxy, "pub", "llm.response.a1", "{}").returncode == 0
        shown = run(proxy, "status")
        found = json.loads(run(proxy, "status", "--json").stdout)
    assert shown.returncode == 0
    assert f"ChemBus {proxy.xsub} -> {proxy.xpub}" in shown.stdout
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["llm.response", "1"] in [row[:2] for row in rows]
    assert "llm.health (none yet)" in shown.stdout
    assert found["version"] == 1
    # One to `tail`, one to `pub` itself.
    assert [one["messages_out"] for one in found["families"]] == [2]
    assert {one["side"] for one in found["peers"]} == {"subscriber"}


def test_without_a_bus_commands_say_so() -> None:
    ports = free_ports(2)
    where = ("--xsub", f"tcp://127.0.0.1:{ports[0]}", "--xpub", f"tcp://127.0.0.1:{ports[1]}")
    for words in (("status",), ("tail",), ("pub", "topic", "{}")):
        done = run(None, *words, *where)
        assert (done.returncode, "KI715" in done.stderr) == (1, True)


@contextmanager
def libzmq_proxy() -> Iterator[tuple[str, str]]:
    """Run libzmq's own proxy, as KLoROS does."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sides = [context.socket(kind) for kind in (zmq.XSUB, zmq.XPUB)]
    for side in sides:
        side.bind("tcp://127.0.0.1:*")
    addresses = [side.getsockopt_string(zmq.LAST_ENDPOINT) for side in sides]

    def forward() -> None:
        try:
            zmq.proxy(*sides)
        except zmq.ContextTerminated:
            for side in sides:
                side.close(linger=0)

    running = threading.Thread(target=forward)
    running.start()
    try:
        yield addresses[0], addresses[1]
    finally:
        context.term()
        running.join()


def test_kloros_s_own_proxy_carries_what_is_published_but_has_no_status() -> None:
    with libzmq_proxy() as (xsub, xpub):
        where = ("--xsub", xsub, "--xpub", xpub)
        assert run(None, "pub", "topic", "{}", *where).returncode == 0
        done = run(None, "status", "--timeout", "1s", *where)
        assert (done.returncode, "KI716" in done.stderr) == (1, True)


def test_a_message_that_is_not_carried_is_not_called_sent(proxy: BusProxy) -> None:
    with a_proxy() as other:
        done = run(None, "pub", "topic", "{}", "--xsub", proxy.xsub, "--xpub", other.xpub, "--timeout", "1s")
    assert (done.returncode, "KI717" in done.stderr) == (1, True)


def test_commands_find_the_bus_by_variables_and_by_what_is_installed(proxy: BusProxy, tmp_path: Path) -> None:
    named = {"KLR_UMN_XSUB": proxy.xsub, "KLR_UMN_XPUB": proxy.xpub}
    assert run(None, "status", environment=named).returncode == 0
    table = a_routing_table(a_routed_model("small"))
    bus = table.bus.model_copy(update={"xsub": proxy.xsub, "xpub": proxy.xpub})
    routing = tmp_path / Layout().routing
    routing.parent.mkdir(parents=True)
    routing.write_text(table.model_copy(update={"bus": bus}).model_dump_json())
    assert run(None, "pub", "topic", "{}", "--root", str(tmp_path)).returncode == 0
    routing.write_text("{}")
    broken = run(None, "status", "--root", str(tmp_path))
    assert (broken.returncode, str(routing) in broken.stderr) == (1, True)


@pytest.mark.parametrize("words", [(), ("run",)])
def test_the_proxy_is_monitored_and_ends_on_sigterm(words: tuple[str, ...]) -> None:
    ports = free_ports(2)
    xsub, xpub = (f"tcp://127.0.0.1:{port}" for port in ports)
    with started([*argv(None, *words), "--monitor", "--xsub", xsub, "--xpub", xpub]) as process:
        assert line_of(process) == f"ChemBus: {xsub} -> {xpub}"
        assert is_listening(xsub)
        messages = follow(xpub, ["llm."])
        waiting = threading.Thread(target=lambda: next(messages, None))
        waiting.start()
        lines = [line_of(process)]
        while "connected: subscriber" not in lines[-1]:
            lines.append(line_of(process))
        where = ("--xsub", xsub, "--xpub", xpub)
        assert run(None, "pub", "llm.x", "{}", *where).returncode == 0
        waiting.join(DEADLINE_S)
        messages.close()
        while "disconnected: subscriber" not in lines[-1]:
            lines.append(line_of(process))
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
