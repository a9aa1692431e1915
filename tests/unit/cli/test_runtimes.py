"""`modelctl start`, `stop` and `ps` ask a router that really listens; its units start as the test wants."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.control_client import ControlClient
from kloros_infra.cli.modelctl import modelctl
from kloros_infra.cli.router_root import operators, root_of
from kloros_infra.cli.runtimes import processor, until_text
from kloros_infra.daemon.control_socket import serve_control
from kloros_infra.daemon.desk import Desk
from kloros_infra.errors import KlorosError, ObstacleError, StepFailedError, UnreachableError
from kloros_infra.ir.control import Runtime
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Refuse, Send
from kloros_infra.router.events import Asked, Ended, Outcome, Ticked, UnitFailed, UnitSeen, UnitStarted
from kloros_infra.router.instance import State
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import FakeHands

TABLE = a_routing_table(
    a_routed_model("qwen-coder", an_upstream("code-cpu_only"), name="code"),
    a_routed_model("broken", an_upstream("broken-cpu_only", port=8602)),
)
BROKEN = UnitFailed("broken-cpu_only", "the unit failed.", ("cannot open model.gguf",))


class StartingHands(FakeHands):
    """Starts what it is told to, but what is broken."""

    def start(self, instance: str) -> None:
        self._later(BROKEN if instance == BROKEN.instance else UnitStarted(instance))  # type: ignore[arg-type]
        if instance != BROKEN.instance:
            self._later(UnitSeen(instance, is_up=True, pid=42))  # type: ignore[arg-type]


class Waiting:
    """Whoever asked, and takes what comes."""

    def on_send(self, send: Send) -> None: ...
    def on_continue(self, send: Send) -> None: ...
    def on_refused(self, refuse: Refuse) -> None: ...


async def keep_busy(desk: Desk) -> None:
    """Ask twice, and end the first request when the instance is to stop."""
    desk.tell(UnitSeen("code-cpu_only", is_up=True, pid=41))
    for id in ("one", "two"):
        desk.ask(Asked(id, Query(model="qwen-coder"), "", desk.now() + 60), Waiting())
    async with asyncio.timeout(10):
        while desk.overview().instances[1].state is not State.DRAINING:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
    desk.ended(Ended("one", Outcome.SERVED))


async def serve(
    path: Path, opened: threading.Event, end: threading.Event, uids: frozenset[int], *, busy: bool = False
) -> None:
    clock = SystemClock()
    desk = Desk(Core(TABLE, profile="cpu_only", now=clock.now()), clock)
    StartingHands(desk)
    try:
        desk.tell(Ticked())
        async with serve_control(desk, str(path), uids=uids):
            opened.set()
            if busy:
                await keep_busy(desk)
            await asyncio.to_thread(end.wait)
    finally:
        desk.close()


@contextmanager
def a_router(root: Path, *, uids: frozenset[int] | None = None, busy: bool = False) -> Iterator[None]:
    """Listen below a root, in a thread of its own."""
    opened, end = threading.Event(), threading.Event()
    path = root / Layout().control_socket
    serving = partial(serve, path, opened, end, uids or operators(root), busy=busy)
    thread = threading.Thread(target=lambda: asyncio.run(serving()))
    thread.start()
    try:
        assert opened.wait(10)
        yield
    finally:
        end.set()
        thread.join(10)


def said(root: Path, *words: str) -> Result:
    return CliRunner().invoke(modelctl, [*words, "--root", str(root)])


def failure(result: Result) -> KlorosError:
    assert isinstance(result.exception, KlorosError)
    return result.exception


def test_an_instance_is_stopped_and_started_by_the_name_of_its_model(tmp_path: Path) -> None:
    with a_router(tmp_path):
        assert said(tmp_path, "stop", "code").output == "code-cpu_only is stopped. A request for it starts it again.\n"
        assert said(tmp_path, "stop", "code", "--no-wait").output == "code-cpu_only is stopped.\n"
        assert said(tmp_path, "start", "code", "--no-wait").output == "code-cpu_only is starting.\n"
        assert said(tmp_path, "start", "code").output.startswith("code-cpu_only runs on port 8601")
        lines = said(tmp_path, "ps").output.splitlines()
        shown = json.loads(said(tmp_path, "ps", "--json").output)
    assert lines[0].split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert lines[1].split() == ["broken-cpu_only", "-", "-", "-", "-", "5", "min", "from", "now"]
    assert lines[2].startswith("code-cpu_only")
    assert shown["version"] == 1
    broken, code = shown["instances"]
    assert (code["unit"], code["status"]) == ("llama@code-cpu_only.service", "running")
    unknown = {"sha256", "total_bytes", "on_cards_bytes", "context_tokens"}
    assert {name for name in unknown if broken[name] is None} == unknown, "no generation has it"


def test_what_the_router_has_stopped_it_says(tmp_path: Path) -> None:
    client = ControlClient(tmp_path / Layout().control_socket)
    assert client.stopped() is None, "there is no router"
    with a_router(tmp_path):
        assert client.stopped() == {}
        said(tmp_path, "stop", "code")
        said(tmp_path, "stop", "broken")
        failure(said(tmp_path, "start", "broken"))
        assert client.stopped() == {
            "llama@code-cpu_only.service": StopCause.ASKED,
            "llama@broken-cpu_only.service": StopCause.FAILED,
        }


def test_one_that_does_not_load_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with a_router(tmp_path):
        said(tmp_path, "stop", "broken")
        error = failure(said(tmp_path, "start", "broken"))
    assert isinstance(error, StepFailedError)
    (problem,) = error.problems
    assert (problem.code, problem.address) == ("KI845", "broken-cpu_only")
    assert "the unit failed." in problem.detail
    assert "cannot open model.gguf" in problem.detail


def test_one_that_others_wait_for_is_stopped_and_started_again(tmp_path: Path) -> None:
    with a_router(tmp_path, busy=True):
        result = said(tmp_path, "stop", "code")
    assert result.output == "code-cpu_only was stopped, and is started again for 1 waiting.\n"


def test_a_wait_that_is_too_short_says_what_it_saw(tmp_path: Path) -> None:
    with a_router(tmp_path):
        said(tmp_path, "stop", "code")
        error = failure(said(tmp_path, "start", "code", "--timeout", "0s"))
    assert "it is starting after 0 s" in error.problems[0].detail


def test_a_stop_that_takes_longer_than_one_waits_says_what_it_saw(tmp_path: Path) -> None:
    with a_router(tmp_path):
        error = failure(said(tmp_path, "stop", "code", "--timeout", "0s"))
    assert error.problems[0].code == "KI849"
    assert "code-cpu_only is stopping after 0 s" in error.problems[0].detail


def test_what_the_router_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with a_router(tmp_path):
        error = failure(said(tmp_path, "start", "cod"))
    assert isinstance(error, ObstacleError)
    assert error.problems[0].code == "KI843"
    assert "Did you mean 'code'?" in error.problems[0].detail


def test_who_is_no_operator_is_told_so(tmp_path: Path) -> None:
    with a_router(tmp_path, uids=frozenset({os.geteuid() + 1})):
        assert failure(said(tmp_path, "ps")).problems[0].code == "KI847"


@pytest.mark.parametrize("words", [("start", "code"), ("stop", "code"), ("ps",)])
def test_without_a_router_nobody_answers(tmp_path: Path, words: tuple[str, ...]) -> None:
    error = failure(said(tmp_path, *words))
    assert isinstance(error, UnreachableError)
    assert error.problems[0].code == "KI848"
    assert str(tmp_path) in error.problems[0].detail


def a_runtime(status: str = "running", *, stops_in_seconds: int | None = 240) -> Runtime:
    return Runtime(
        profile="code-max",
        status=status,
        pid=42,
        port=8601,
        uptime_seconds=60,
        last_request_at=None,
        model_id="qwen-coder",
        gpu_profile="max",
        unit="llama@code-max.service",
        active_requests=0,
        queued_requests=0,
        stops_in_seconds=stops_in_seconds,
        restarts=0,
        reason="",
        last_lines=(),
    )


@pytest.mark.parametrize(
    ("runtime", "until"),
    [
        (a_runtime(), "4 min from now"),
        (a_runtime(stops_in_seconds=3), "3 s from now"),
        (a_runtime(stops_in_seconds=None), "Forever"),
        (a_runtime("draining"), "Stopping..."),
        (a_runtime("loading", stops_in_seconds=None), "Loading..."),
    ],
)
def test_until_when_it_runs_is_said_as_ollama_does(runtime: Runtime, until: str) -> None:
    assert until_text(runtime) == until


@pytest.mark.parametrize(
    ("on_cards", "total", "words"),
    [(10, 10, "100% GPU"), (0, 10, "100% CPU"), (52, 100, "48%/52% CPU/GPU"), (0, 0, "100% CPU")],
)
def test_where_it_is_is_said_as_ollama_does(on_cards: int, total: int, words: str) -> None:
    assert processor(on_cards, total) == words


def test_the_root_is_found_by_where_the_table_lies(tmp_path: Path) -> None:
    assert root_of(Path("/etc/kloros-infra/current/routing.json")) == Path("/")
    assert root_of(tmp_path / Layout().routing) == tmp_path
    assert root_of(tmp_path / "routing.json") is None


def test_root_the_router_and_the_owner_of_its_root_are_operators(tmp_path: Path) -> None:
    assert operators(None) == {0, os.geteuid()}
    if os.geteuid() == 0:
        os.chown(tmp_path, 4711, -1)
        assert operators(tmp_path) == {0, 4711}


def test_an_answer_that_is_none_is_no_router(tmp_path: Path) -> None:
    with a_router(tmp_path):
        client = ControlClient(tmp_path / Layout().control_socket)
        with pytest.raises(UnreachableError) as caught:
            client._asked("GET", "/queue", None, Runtime)  # no other way to a body of another shape
    assert "no Runtime" in caught.value.problems[0].detail
