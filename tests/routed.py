"""Parts of a routing table that few tests need: remote hosts, clients, and a table that has them."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.ir.requests import ClientAccess, Priority, UpstreamKind
from kloros_infra.ir.routing import RoutedClient, RoutedHost, RoutedPolicies, RoutingTable

DATA_CLASSES = ("public", "internal", "private")


def a_host(
    name: str = "rig", *, models: Mapping[str, str], priority: int = 10, toggle: str | None = None
) -> RoutedHost:
    """Build a remote host, which is asked before this machine unless its priority says otherwise."""
    return RoutedHost(
        name=name,
        kind=UpstreamKind.OLLAMA,
        address="192.0.2.7",
        port=11434,
        path="/v1",
        is_tls=True,
        priority=priority,
        toggle=toggle,
        credential="rig-key",
        health_path="/api/version",
        health_interval_s=30.0,
        health_timeout_s=2.0,
        health_failures=3,
        models=dict(models),
    )


def a_client(
    name: str = "voice",
    *,
    sources: tuple[str, ...] = ("kloros-voice",),
    credential: str | None = None,
    models: tuple[str, ...] | None = None,
    purposes: tuple[str, ...] | None = None,
    data_class: str | None = None,
    priority: Priority | None = None,
) -> RoutedClient:
    """Build a client that may do everything unless said otherwise."""
    return RoutedClient(
        name=name,
        sources=sources,
        credential=credential,
        models=models,
        purposes=purposes,
        data_class=data_class,
        priority=priority,
        max_queued=None,
        requests_per_minute=None,
    )


def served_by(
    table: RoutingTable,
    *hosts: RoutedHost,
    clients: tuple[RoutedClient, ...] = (),
    unknown_clients: ClientAccess = ClientAccess.ALLOW,
) -> RoutingTable:
    """Give a table hosts and clients."""
    policies = RoutedPolicies(clients=clients, unknown_clients=unknown_clients, data_classes=DATA_CLASSES)
    return table.model_copy(update={"hosts": hosts, "policies": policies})
