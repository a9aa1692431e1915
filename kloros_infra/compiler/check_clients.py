"""Checks of clients: that each can be told, and that somebody may ask (KI251 to KI253)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config_requests import ClientSpec


def check_clients(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find clients that nothing tells from others, or by which nobody can be known."""
    policies = parsed.config.policies
    owners: dict[tuple[str, str], str] = {}
    for name, client in policies.clients.items():
        if not client.sources and client.credential is None:
            yield parsed.locate(_nobody(name), ("policies", "clients", name), at_key=True)
        for mark, address in _marks(name, client):
            first = owners.setdefault(mark, name)
            if first != name:
                yield parsed.locate(_same_client(name, first, mark), address)
    if policies.unknown_clients == "refuse" and not policies.clients:
        yield parsed.locate(_all_refused(), ("policies", "unknown_clients"))


def _marks(name: str, client: ClientSpec) -> Iterator[tuple[tuple[str, str], Address]]:
    address: Address = ("policies", "clients", name)
    for place, source in enumerate(client.sources):
        yield ("source", source), (*address, "sources", place)
    if client.credential is not None:
        yield ("credential", client.credential), (*address, "credential")


def _nobody(client: str) -> Diagnostic:
    return Diagnostic(
        code="KI253",
        summary="Client that nobody is",
        detail=f"{client} has neither `sources` nor a `credential`: no request can be known as its.",
        hint="Add the values of metadata.source_service that are this client, or the name of its credential.",
        severity=Severity.WARNING,
    )


def _same_client(client: str, first: str, mark: tuple[str, str]) -> Diagnostic:
    kind, value = mark
    return Diagnostic(
        code="KI252",
        summary="Clients that cannot be told apart",
        detail=f"The {kind} {value!r} stands for {client} here and for {first} before.",
        hint=f"Give each {kind} to one client.",
    )


def _all_refused() -> Diagnostic:
    return Diagnostic(
        code="KI251",
        summary="Nobody may ask",
        detail="`unknown_clients: refuse` with no client under `clients` refuses every request.",
        hint="Add the clients that may ask, or write `unknown_clients: allow`.",
    )
