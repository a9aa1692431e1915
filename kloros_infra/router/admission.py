"""Whether a request is admitted, and what it may be answered by: its client's rights and rate, and its candidates.

Candidates depend on the table, the profile, the query and the client, and are remembered.
"""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.ir.routing import RoutedClient, RoutingTable
from kloros_infra.router import clients as limits
from kloros_infra.router import refusals
from kloros_infra.router.board import Effects
from kloros_infra.router.candidates import Candidates
from kloros_infra.router.candidates import candidates as _candidates
from kloros_infra.router.clients import Clients, Rate
from kloros_infra.router.effects import Refuse
from kloros_infra.router.events import Asked
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import Chosen

REMEMBERED = 1024
"""Few names can be asked by, but there are also numbers among what a query says: what is remembered has a bound."""


class Usual(NamedTuple):
    """The first of some candidates, and what is asked of it for every request, taken out of it once."""

    found: Candidates
    chosen: Chosen
    station: str
    context_tokens: int
    rank: int
    """Of a request that claims no priority."""


def _has_rate(client: RoutedClient | None) -> bool:
    return client is not None and client.requests_per_minute is not None


class Admission:
    """Knows the clients; `running` is the table with instances as they run where they are not restarted yet."""

    def __init__(self, table: RoutingTable, profile: str) -> None:
        self.running = table
        self.usual: dict[tuple[Query, str], Usual] = {}
        """What is chosen where neither speed nor the client's rate matters, if it is free."""
        self._found: dict[tuple[Query, str], Candidates] = {}
        self._rates: dict[str, Rate] = {}
        self.use(table, profile)

    def use(self, table: RoutingTable, profile: str) -> None:
        """Go by the clients of another table, and by a profile; `serve` follows."""
        self._clients = Clients(table.policies)
        self._profile = profile

    def serve(self, running: RoutingTable) -> None:
        """Choose anew from here on."""
        self.running = running
        self._found.clear()
        self.usual.clear()

    def named(self, name: str) -> RoutedClient | None:
        """Find a client by its name."""
        return self._clients.named(name)

    def admitted(self, event: Asked, client: RoutedClient | None, now: float, out: Effects) -> Candidates | None:
        """Find the candidates, unless the client may not ask, or not yet."""
        known = self._found.get((event.query, event.client))
        if known is not None and not _has_rate(client):
            return known
        problem = self._clients.refusal(client, event.client)
        if problem is not None:
            out.append(Refuse(event.id, problem, is_temporary=False))
            return None
        if client is not None and client.requests_per_minute is not None:
            per_minute = client.requests_per_minute
            self._rates[client.name], wait_s = limits.on_request(self._rates.get(client.name), per_minute, now)
            if wait_s is not None:
                out.append(Refuse(event.id, refusals.too_fast(client.name, per_minute), True, wait_s))
                return None
        found = self.candidates(event.query, event.client, client)
        if isinstance(found, Refused):
            out.append(Refuse(event.id, found.problem, found.is_temporary))
            return None
        return found

    def candidates(self, query: Query, name: str, client: RoutedClient | None) -> Candidates | Refused:
        """List candidates, or remember them; a refusal may be of any name, and is not remembered."""
        key = query, name
        known = self._found.get(key)
        if known is not None:
            return known
        found = _candidates(self.running, query, profile=self._profile, client=client)
        if not isinstance(found, Refused):
            if len(self._found) >= REMEMBERED:
                self._found.clear()
                self.usual.clear()
            self._found[key] = found
            if found.max_latency_s is None and not _has_rate(client):
                first = found.choices[0]
                target = first.targets[0]
                chosen = Chosen(first, target, first.reason)
                self.usual[key] = Usual(found, chosen, target.name, target.context_tokens, found.rank(None))
        return found
