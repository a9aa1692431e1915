"""Whom a request is of, and what he may ask for (policies of models.yaml)."""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.requests import ClientAccess
from kloros_infra.ir.routing import RoutedClient, RoutedModel, RoutedPolicies
from kloros_infra.router import refusals


class Clients:
    """The clients of a routing table, by what tells them."""

    def __init__(self, policies: RoutedPolicies) -> None:
        self._access = policies.unknown_clients
        self._by_name = {client.name: client for client in policies.clients}
        self._by_source = {source: client for client in policies.clients for source in client.sources}
        self._by_credential = {client.credential: client for client in policies.clients if client.credential}

    def of(self, source: str | None = None, credential: str | None = None) -> RoutedClient | None:
        """Tell a client by the credential whose key it sent, else by the service that it says it is.

        A key is proof and a name is not: whoever sends another's key is that other, whatever he calls himself.
        """
        by_key = self._by_credential.get(credential) if credential is not None else None
        return by_key or (self._by_source.get(source) if source is not None else None)

    def named(self, name: str) -> RoutedClient | None:
        """Find a client by its name."""
        return self._by_name.get(name)

    def refusal(self, client: RoutedClient | None, source: str | None = None) -> Diagnostic | None:
        """Say why a request of an unknown client is refused; None where it is not, or the client is known."""
        if client is not None or self._access is ClientAccess.ALLOW:
            return None
        return refusals.unknown_client(source, self._by_source)


def may_use_model(client: RoutedClient | None, model: RoutedModel) -> bool:
    """Say whether a client may use a model."""
    return client is None or client.models is None or model.id in client.models


def may_use_purpose(client: RoutedClient | None, purpose: str) -> bool:
    """Say whether a client may ask for a purpose."""
    return client is None or client.purposes is None or purpose in client.purposes


def may_see(model: RoutedModel, client: RoutedClient | None, data_classes: tuple[str, ...]) -> bool:
    """Say whether a model may see a client's data: its class is at least as sensitive; `data_classes` rise."""
    if client is None or client.data_class is None or model.data_class is None:
        return True
    known = {model.data_class, client.data_class} <= set(data_classes)
    return known and data_classes.index(model.data_class) >= data_classes.index(client.data_class)


class Rate(NamedTuple):
    """How many requests a client has left of this minute, as a bucket that fills all the time."""

    left: float
    at: float


def on_request(rate: Rate | None, per_minute: int, now: float) -> tuple[Rate, float | None]:
    """Take one request out of the bucket; where it is empty, say in how many seconds it would not be."""
    filled = per_minute if rate is None else min(per_minute, rate.left + (now - rate.at) * per_minute / 60)
    if filled >= 1:
        return Rate(filled - 1, now), None
    return Rate(filled, now), (1 - filled) * 60 / per_minute
