"""Keys of HTTP clients (RFC 6750), compared by their digests in a time that tells nothing of them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from kloros_infra.daemon.ports import Credentials
from kloros_infra.ir.routing import RoutingTable


class Keys:
    """The keys of some credentials, as digests; of a key that two of them have the later one is told."""

    def __init__(self, names: Iterable[str], credentials: Credentials | None) -> None:
        self._digests: list[tuple[bytes, str]] = []
        self.unread: dict[str, str] = {}
        """Credentials that cannot be read, and why."""
        for name in dict.fromkeys(names):
            self._read(name, credentials)

    def _read(self, name: str, credentials: Credentials | None) -> None:
        if credentials is None:
            self.unread[name] = "this router was given no folder of credentials"
            return
        try:
            keys = credentials.read_lines(name)
        except OSError as error:
            self.unread[name] = error.strerror or str(error)
            return
        self._digests += [(sha256(key.encode()).digest(), name) for key in keys]

    def credential_of(self, authorization: bytes) -> str | None:
        """Name the credential that holds the key of an Authorization header; None where none does."""
        scheme, _, key = authorization.partition(b" ")
        digest = sha256(key.strip()).digest() if scheme.lower() == b"bearer" else b""
        found = None
        for known, name in self._digests:
            if hmac.compare_digest(digest, known):  # all are looked at, whichever it is
                found = name
        return found


def client_names(table: RoutingTable) -> tuple[str, ...]:
    """Name the credentials that tell clients."""
    return tuple(client.credential for client in table.policies.clients if client.credential is not None)
