"""Ask for each HTTP client by the key that it sends."""

from __future__ import annotations

from kloros_infra.daemon.asking import Asking
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_keys import Keys, client_names
from kloros_infra.daemon.ports import Credentials
from kloros_infra.ir.routing import RoutingTable

MOST_HEARD = 256
"""So many headers are remembered, as a digest is worked out for each that is not."""


class Askers:
    """An `Asking` for all whom no key tells (`anyone`), and one for each credential that tells a client."""

    def __init__(self, desk: Desk, credentials: Credentials | None) -> None:
        self._desk = desk
        self._credentials = credentials
        self._table: RoutingTable | None = None
        self._keys = Keys((), None)
        self._known: dict[str, Asking] = {}
        self.heard: dict[bytes, Asking] = {}
        """Who sent which header lately."""
        self.anyone = Asking(desk)

    def of(self, authorization: bytes) -> Asking:
        """Find who asks for a request with this Authorization header; a key that is nobody's tells nothing."""
        table = self._desk.table
        if table is not self._table:
            self._table, self._keys = table, Keys(client_names(table), self._credentials)
            self.heard.clear()
        heard = self.heard.get(authorization)
        if heard is None:
            if len(self.heard) >= MOST_HEARD:
                self.heard.clear()
            heard = self.heard[authorization] = self._of(authorization)
        return heard

    def _of(self, authorization: bytes) -> Asking:
        credential = self._keys.credential_of(authorization)
        if credential is None:
            return self.anyone
        return self._known.setdefault(credential, Asking(self._desk, credential=credential))
