"""The runtime control API on its Unix socket."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.control_socket import MOST_CONNECTIONS, serve_control
from kloros_infra.daemon.desk import Desk
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.control import Runtimes
from kloros_infra.ir.routing import RoutedShare, RoutingTable
from kloros_infra.router.events import Asked
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import FakeHands, a_desk
from tests.fakes.waiting import Waiting

ME = frozenset({os.geteuid()})
CODE = a_routed_model("qwen-coder", an_upstream("code-cpu_only"), an_upstream("code-max", port=8602), name="code")
TABLE = a_routing_table(CODE)


class Operator:
    """A desk, its hands, and an operator's way to it."""

    def __init__(self, desk: Desk, hands: FakeHands, web: httpx.AsyncClient) -> None:
        self.desk = desk
        self.hands = hands
        self.web = web

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        answer = await self.web.post(path, json=body)
        return answer.status_code, answer.json()

    async def get(self, path: str) -> tuple[int, Any]:
        answer = await self.web.get(path)
        return answer.status_code, answer.json()


def operated(
    folder: Path,
    test: Callable[[Operator], Awaitable[None]],
    *,
    uids: frozenset[int] = ME,
    name: str = "control.sock",
    table: RoutingTable | None = None,
) -> None:
    async def within() -> None:
        desk, hands = a_desk(table or TABLE, SystemClock())
        await asyncio.sleep(0)  # the fake stops what is of another profile in the loop's next turn
        hands.orders.clear()
        try:
            async with serve_control(desk, str(folder / name), uids=uids):
                transport = httpx.AsyncHTTPTransport(uds=name)
                async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
                    await test(Operator(desk, hands, web))
        finally:
            desk.close()

    asyncio.run(within())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in the folder: its whole path may be longer than a client can name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_health_has_the_design_documents_body(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        status, body = await operator.get("/runtimes/health")
        assert status == 200
        (runtime,) = Runtimes.model_validate(body).runtimes
        assert (runtime.profile, runtime.status, runtime.port) == ("code-cpu_only", "running", 8601)
        assert (runtime.model_id, runtime.stops_in_seconds, runtime.last_request_at) == ("qwen-coder", 300, None)
        assert {"profile", "status", "pid", "port", "uptime_seconds", "last_request_at"} <= body["runtimes"][0].keys()

    operated(folder, test)


def test_stop_and_start_order_what_they_name(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        status, body = await operator.post("/runtimes/stop", {"profile": "code-cpu_only"})
        assert (status, body["profile"], body["status"]) == (202, "code-cpu_only", "stopping")
        await asyncio.sleep(0)  # the fake's unit stops in the loop's next turn
        assert (await operator.post("/runtimes/stop", {"profile": "code"}))[0] == 200
        status, body = await operator.post("/runtimes/start", {"profile": "code-cpu_only", "model_id": "qwen-coder"})
        assert (status, body["status"]) == (202, "starting")
        # What does not start is stopped, so that its service manager does not go on trying.
        assert operator.hands.orders[:2] == [("stop", "code-cpu_only"), ("start", "code-cpu_only")]
        body = (await operator.get("/runtimes/health"))[1]["runtimes"][0]
        assert (body["status"], body["reason"]) == ("failed", "nobody starts it here.")

    operated(folder, test)


def test_starting_what_runs_is_done_at_once(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        assert (await operator.post("/runtimes/start", {"model_id": "code"}))[0] == 200
        assert operator.hands.orders == []

    operated(folder, test)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"profile": "cod"}, 404, "KI843"),
        ({"profile": "code-max"}, 409, "KI844"),
        ({}, 400, "KI838"),
        ({"profile": 3}, 400, "KI838"),
        ({"profile": "code", "now": True}, 400, "KI838"),
        ([], 400, "KI837"),
    ],
)
def test_a_start_that_cannot_be_is_refused(folder: Path, body: object, status: int, code: str) -> None:
    async def test(operator: Operator) -> None:
        got, answer = await operator.post("/runtimes/start", body)
        assert (got, answer["error"]["code"]) == (status, code)
        assert operator.hands.orders == []

    operated(folder, test)


def test_a_stop_of_what_is_not_there_is_refused(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        assert (await operator.post("/runtimes/stop", {"profile": "cod"}))[0] == 404

    operated(folder, test)


def test_what_needs_a_closed_card_is_not_started(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        card = ReportedCard(card="rtx5080", state="locked", reason="locked out: gaming")
        report = CardsReport(profile="cpu_only", reason="so", since_epoch_s=0.0, cards=(card,))
        operator.desk.take_state("cpu_only", report)
        await asyncio.sleep(0)  # the fake's unit stops in the loop's next turn
        status, answer = await operator.post("/runtimes/start", {"profile": "code-cpu_only"})
        assert (status, answer["error"]["code"]) == (409, "KI876")
        assert "its card rtx5080 is locked out: gaming" in answer["error"]["message"]
        assert operator.hands.orders == [("stop", "code-cpu_only")]

    shares = (RoutedShare(card="rtx5080", mib=100),)
    upstreams = (TABLE.models[0].upstreams[0].model_copy(update={"shares": shares}),)
    model = TABLE.models[0].model_copy(update={"upstreams": upstreams})
    operated(folder, test, table=TABLE.model_copy(update={"models": (model,)}))


def test_following_answers_when_it_is_done(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        operator.desk.follow = lambda: operator.desk.take_state("max", None)
        assert await operator.post("/follow", {}) == (200, {"profile": "max"})
        assert (await operator.get("/follow"))[0] == 405

    operated(folder, test)


def test_following_may_be_asked_for_where_there_is_nothing_to_follow(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        assert await operator.post("/follow", None) == (200, {"profile": "cpu_only"})

    operated(folder, test)


def test_the_queue_lists_who_waits(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        for id in ("one", "two"):
            operator.desk.ask(Asked(id, Query(model="code"), "voice", operator.desk.now() + 30), Waiting())
        status, body = await operator.get("/queue")
        assert status == 200
        (waiting,) = body["waiting"]
        assert (waiting["request_id"], waiting["client"], waiting["position"]) == ("two", "voice", 1)
        assert (waiting["model_id"], waiting["priority"]) == ("qwen-coder", "interactive")

    operated(folder, test)


def test_a_route_is_explained_as_it_would_be_decided_now(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        status, body = await operator.get(
            "/route?purpose=fast&min_context_tokens=100&source=somebody&max_latency_ms=5e4"
        )
        assert status == 200
        assert body["purpose"] == "fast"
        assert "code-cpu_only" in str(body)
        status, body = await operator.get("/route?porpoise=fast&tokens=-1")
        assert (status, body["error"]["code"]) == (400, "KI838")
        assert "tokens" in body["error"]["message"]
        status, body = await operator.get("/route?" + "&".join(f"a{number}=1" for number in range(99)))
        assert (status, body["error"]["code"]) == (400, "KI830")

    operated(folder, test)


def test_other_paths_and_methods_are_refused(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        status, body = await operator.get("/v1/models")
        assert (status, body["error"]["code"]) == (404, "KI835")
        assert "/runtimes/health" in body["error"]["message"]
        answer = await operator.web.get("/runtimes/start")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    operated(folder, test)


def test_who_is_no_operator_is_refused_whatever_he_asks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(operator: Operator) -> None:
        for _ in range(2):
            status, body = await operator.post("/runtimes/stop", {"profile": "code"})
            assert (status, body["error"]["code"]) == (403, "KI847")
        assert operator.hands.orders == []

    operated(folder, test, uids=frozenset())
    assert f"user {os.geteuid()} asked" in caplog.text


async def _has_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


def test_who_is_refused_is_not_kept(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        reader, writer = await asyncio.open_unix_connection("control.sock")
        writer.write(b"GET /queue HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(2):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 403 ")
        writer.close()

    operated(folder, test, uids=frozenset())


def test_one_user_has_so_many_connections_and_no_more(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        opened = [await asyncio.open_unix_connection("control.sock") for _ in range(MOST_CONNECTIONS)]
        reader, further = await asyncio.open_unix_connection("control.sock")
        async with asyncio.timeout(2):
            assert await _has_closed(reader)
        further.close()
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()
        assert (await operator.get("/queue"))[0] == 200

    operated(folder, test)


def test_the_socket_replaces_a_former_routers_and_goes_with_its_own(folder: Path) -> None:
    deep = folder / ("d" * 100)
    deep.mkdir()
    (deep / "control.sock").write_text("left behind")

    async def test(operator: Operator) -> None:
        assert stat.S_ISSOCK((deep / "control.sock").stat().st_mode)
        assert stat.S_IMODE((deep / "control.sock").stat().st_mode) == 0o666

    os.chdir(deep)
    operated(deep, test)
    assert list(deep.iterdir()) == []


def test_another_routers_socket_is_left_to_it(folder: Path) -> None:
    async def test(operator: Operator) -> None:
        (folder / "control.sock").unlink()
        (folder / "control.sock").write_text("another one")

    operated(folder, test)
    assert (folder / "control.sock").read_text() == "another one"


def test_a_router_without_a_place_for_its_socket_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "file").write_text("")

    async def test(operator: Operator) -> None:
        assert operator.desk.overview().instances

    with caplog.at_level(logging.WARNING):
        operated(folder, test, name="file/control.sock")
    assert "KI846" in caplog.text
