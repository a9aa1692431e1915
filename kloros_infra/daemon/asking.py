"""Put a request, of the HTTP bridge or of the bus, into the words of the desk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import count
from typing import Any

from kloros_infra.daemon.desk import Desk
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutedClient, RoutedPolicies, RoutingTable
from kloros_infra.router.clients import Clients
from kloros_infra.router.events import Asked
from kloros_infra.router.marks import Traits, by_marks, has_marks
from kloros_infra.router.query import Query
from kloros_infra.router.tokens import estimate_tokens, tokens_of_bytes

# Clients of HTTP state no deadline, and leave when they have waited long enough.
DEADLINE_S = 900.0
SHORT_BYTES = 4096
LONGEST_NAME = 200
"""So many characters of a service, session or priority are taken."""
_PRIORITIES = {priority.value: priority for priority in Priority}
_NOTHING: Mapping[str, Any] = {}


class Asking:
    """Names requests, and reads of them what bears on where they go."""

    def __init__(self, desk: Desk, *, credential: str | None = None) -> None:
        """Ask for those who sent a key of `credential`, or for anybody."""
        self._desk = desk
        self._credential = credential
        # Allocations of two routers, one after the other, meet in one journal.
        self._prefix = f"http-{secrets.token_hex(4)}-"
        self._numbers = count(1)
        self._table: RoutingTable | None = None
        self._clients = Clients(RoutedPolicies())
        self._has_marks = False

    def asked(
        self,
        query: Query,
        body: Mapping[str, Any],
        size_bytes: int,
        *,
        id: str | None = None,
        limit_s: float = DEADLINE_S,
    ) -> Asked:
        """Ask for a request whose body has been checked; `size_bytes` is what came over the wire."""
        # Of a short request the bytes say enough; of a long one they may be pictures, or blanks between words.
        tokens = tokens_of_bytes(size_bytes) if size_bytes < SHORT_BYTES else estimate_tokens(body)
        table = self._desk.table
        if table is not self._table:
            self._table, self._has_marks, self._clients = table, has_marks(table), Clients(table.policies)
        if id is None:
            id = f"{self._prefix}{next(self._numbers)}"
        deadline_at = self._desk.now() + limit_s
        metadata = body.get("metadata")
        if not metadata and not self._has_marks and self._credential is None:
            # What Asked(...) comes to, in less than half the time.
            return tuple.__new__(Asked, (id, query, "", deadline_at, tokens, None, None))
        metadata = metadata or _NOTHING
        source = _text(metadata.get("source_service"))
        client = self._clients.of(source, self._credential)
        if self._has_marks:
            query = by_marks(table, query, _traits(query, body, source, tokens), client)
        session, priority = _text(metadata.get("session_id")), _PRIORITIES.get(_text(metadata.get("priority")) or "")
        return Asked(id, query, self._name_of(client, source), deadline_at, tokens, session, priority)

    def _name_of(self, client: RoutedClient | None, source: str | None) -> str:
        """Name a client; a stranger who calls himself as one is none."""
        if client is not None:
            return client.name
        return f"?{source}" if source and self._clients.named(source) is not None else source or ""


def _traits(query: Query, body: Mapping[str, Any], source: str | None, tokens: int) -> Traits:
    return Traits(
        last_message=_last_text(body),
        model=query.model,
        source=source,
        kind=query.kind or ModelKind.CHAT,
        has_images=query.kind is ModelKind.VISION,
        has_tools=bool(body.get("tools")),
        tokens=tokens,
    )


def _last_text(body: Mapping[str, Any]) -> str:
    """Give the text of the last turn, or of the prompt."""
    messages = body.get("messages")
    content = messages[-1].get("content") if messages else body.get("prompt") or body.get("input")
    if isinstance(content, list):
        content = " ".join(part["text"] for part in content if isinstance(part, dict) and "text" in part)
    return content if isinstance(content, str) else ""


def _text(value: Any) -> str | None:
    """Take a name; one that nobody gives is passed over, as names are remembered for as long as the router runs."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME else None
