"""Have HTTP clients bring a key, where `bridge.credential` asks for one; loopback without it stays open."""

from __future__ import annotations

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.bridge import Bridge, error_writer
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_framing import Request
from kloros_infra.daemon.http_keys import Keys, client_names
from kloros_infra.daemon.ports import Credentials
from kloros_infra.daemon.relay import Client
from kloros_infra.ir.routing import RoutingTable

CHALLENGE = b"WWW-Authenticate: Bearer\r\n"


class Gate:
    """Lets requests through that bring a key of `bridge.credential` or of a client."""

    def __init__(self, bridge: Bridge, desk: Desk, credential: str, credentials: Credentials | None) -> None:
        self._bridge = bridge
        self._desk = desk
        self._credential = credential
        self._credentials = credentials
        self._table: RoutingTable | None = None
        self._keys = Keys((), None)

    def answer(self, request: Request, client: Client) -> None:
        """Answer a request, or say that its key is missing or wrong."""
        table = self._desk.table
        if table is not self._table:
            self._table, self._keys = table, Keys((self._credential, *client_names(table)), self._credentials)
        # Browsers ask for the options of an address before they send a key (Fetch standard, CORS preflight).
        if request.method == "OPTIONS" or self._keys.credential_of(request.authorization) is not None:
            self._bridge.answer(request, client)
        else:
            self._refuse(request, client, self._keys.unread.get(self._credential))

    def _refuse(self, request: Request, client: Client, reason: str | None) -> None:
        if reason is None:
            status, problem = 401, http_problems.no_key(is_sent=bool(request.authorization))
        else:
            status, problem = 503, http_problems.keys_unread(self._credential, reason)
        body = error_writer(request.path)(status, (problem,))
        client.reply(status, body, extra=CHALLENGE if status == 401 else b"")
