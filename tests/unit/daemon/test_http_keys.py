"""Keys of HTTP clients: who is let in, and as whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.credentials import MOST_BYTES, CredentialFolder
from kloros_infra.daemon.askers import MOST_HEARD, Askers
from kloros_infra.daemon.http_keys import Keys
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.ir.requests import ClientAccess
from kloros_infra.ir.routing import RoutedBridge, RoutedClient, RoutedPolicies, RoutingTable
from kloros_infra.router.query import Query
from tests.bridge_house import CHAT
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import a_desk
from tests.fakes.llama_server import FakeLlamaServer

BRIDGE, VOICE = b"Bearer br1dge", b"Bearer v01ce"


@pytest.fixture
def folder(tmp_path: Path) -> CredentialFolder:
    (tmp_path / "bridge-keys").write_text("other\nbr1dge\n")
    (tmp_path / "voice-keys").write_text("\r\n v01ce \r\n")
    return CredentialFolder(tmp_path)


def a_client(name: str, credential: str | None, *, sources: tuple[str, ...] = ()) -> RoutedClient:
    return RoutedClient(
        name=name,
        sources=sources,
        credential=credential,
        models=None,
        purposes=None,
        data_class=None,
        priority=None,
        max_queued=None,
        requests_per_minute=None,
    )


def a_table(
    port: int = 1, *, credential: str | None = None, unknown: ClientAccess = ClientAccess.ALLOW
) -> RoutingTable:
    clients = (a_client("voice", "voice-keys"), a_client("code", None, sources=("coder",)))
    table = a_routing_table(
        a_routed_model("small", an_upstream("small-cpu_only", port=port)),
        bridge=RoutedBridge(host="127.0.0.1", ports=(0,), credential=credential),
    )
    return table.model_copy(update={"policies": RoutedPolicies(clients=clients, unknown_clients=unknown)})


def test_a_key_names_its_credential_and_the_later_one_where_two_have_it(folder: CredentialFolder) -> None:
    keys = Keys(("bridge-keys", "voice-keys", "bridge-keys"), folder)
    assert keys.unread == {}
    assert keys.credential_of(BRIDGE) == "bridge-keys"
    assert keys.credential_of(b"bearer   v01ce ") == "voice-keys"
    for wrong in (b"", b"Bearer", b"Bearer ", b"Bearer br1dg", b"Bearer br1dge2", b"Basic br1dge", b"br1dge", b"\xff"):
        assert keys.credential_of(wrong) is None


def test_credentials_that_cannot_be_read_hold_no_key(tmp_path: Path) -> None:
    (tmp_path / "blank").write_text(" \n\n")
    (tmp_path / "odd").write_bytes(b"good\nb\xc3\xa4d\n")
    (tmp_path / "long").write_bytes(b"k" * (MOST_BYTES + 1))
    keys = Keys(("blank", "odd", "long", "absent"), CredentialFolder(tmp_path))
    assert set(keys.unread) == {"blank", "odd", "long", "absent"}
    assert keys.credential_of(b"Bearer good") is None
    assert Keys(("any",), None).unread == {"any": "this router was given no folder of credentials"}


def test_a_key_tells_its_client_whatever_it_calls_itself(folder: CredentialFolder) -> None:
    async def test() -> None:
        desk, _ = a_desk(a_table(), SystemClock())
        askers = Askers(desk, folder)
        metadata = {"metadata": {"source_service": "coder"}}
        assert askers.of(VOICE).asked(Query(), metadata, 9).client == "voice"
        assert askers.of(VOICE).asked(Query(), {}, 9).client == "voice"
        assert askers.of(VOICE) is askers.of(VOICE)
        assert askers.of(b"Bearer none") is askers.anyone
        assert askers.anyone.asked(Query(), metadata, 9).client == "code"
        first, second = askers.of(VOICE).asked(Query(), {}, 9), askers.anyone.asked(Query(), {}, 9)
        assert first.id != second.id
        desk.replace_table(a_table().model_copy(update={"policies": RoutedPolicies()}))
        assert askers.of(VOICE) is askers.anyone
        for number in range(3 * MOST_HEARD):
            assert askers.of(b"Bearer %d" % number) is askers.anyone
        assert len(askers.heard) <= MOST_HEARD
        desk.close()

    asyncio.run(test())


def over_http(
    test: Callable[[httpx.AsyncClient], Awaitable[None]],
    folder: CredentialFolder,
    *,
    credential: str | None = None,
    unknown: ClientAccess = ClientAccess.ALLOW,
) -> None:
    async def within() -> None:
        pool = UpstreamPool(credentials=folder)
        async with FakeLlamaServer("words") as upstream:
            desk, _ = a_desk(a_table(upstream.port, credential=credential, unknown=unknown), SystemClock())
            async with (
                serve(desk, pool, host="127.0.0.1", ports=(0,)) as server,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.ports[0]}", timeout=10) as web,
            ):
                await test(web)
            desk.close()
        await pool.close()

    asyncio.run(within())


def test_a_bridge_with_keys_lets_nobody_in_without_one(folder: CredentialFolder) -> None:
    async def test(web: httpx.AsyncClient) -> None:
        for key in (None, b"Bearer wrong", b"Basic br1dge"):
            headers = {} if key is None else {b"Authorization": key}
            for _ in range(3):  # the second on a connection is read without the parser
                answer = await web.post("/v1/chat/completions", json=CHAT, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                error = answer.json()["error"]
                assert (error["code"], error["type"]) == ("KI866", "authentication_error")
            answer = await web.post("/api/chat", json=CHAT, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "KI866")
            assert (await web.get("/health", headers=headers)).status_code == 401
            assert (await web.get("/nothing", headers=headers)).status_code == 401
        for key in (BRIDGE, VOICE):
            for _ in range(3):
                answer = await web.post("/v1/chat/completions", json=CHAT, headers={b"Authorization": key})
                assert answer.status_code == 200
            assert (await web.get("/v1/models", headers={b"Authorization": key})).status_code == 200
        answer = await web.options("/v1/models", headers={"Origin": "http://localhost"})
        assert answer.status_code == 200

    over_http(test, folder, credential="bridge-keys")


def test_a_bridge_whose_keys_cannot_be_read_lets_only_known_clients_in(folder: CredentialFolder) -> None:
    async def test(web: httpx.AsyncClient) -> None:
        answer = await web.post("/v1/chat/completions", json=CHAT, headers={b"Authorization": BRIDGE})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "KI867")
        answer = await web.post("/v1/chat/completions", json=CHAT, headers={b"Authorization": VOICE})
        assert answer.status_code == 200

    over_http(test, folder, credential="absent-keys")


def test_without_keys_of_its_own_the_bridge_is_open_and_knows_clients_by_theirs(folder: CredentialFolder) -> None:
    async def test(web: httpx.AsyncClient) -> None:
        for key, status in ((VOICE, 200), (b"Bearer none", 403), (None, 403)):
            headers = {} if key is None else {b"Authorization": key}
            answer = await web.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert answer.status_code == status
        answer = await web.post("/api/chat", json=CHAT, headers={b"Authorization": VOICE})
        assert answer.status_code == 200
        assert (await web.get("/v1/models")).status_code == 200

    over_http(test, folder, unknown=ClientAccess.REFUSE)


def test_two_authorization_headers_are_refused(folder: CredentialFolder) -> None:
    async def test(web: httpx.AsyncClient) -> None:
        headers = [("Authorization", "Bearer wrong"), ("Authorization", "Bearer br1dge")]
        assert (await web.get("/v1/models", headers=headers)).status_code == 400

    over_http(test, folder, credential="bridge-keys")
