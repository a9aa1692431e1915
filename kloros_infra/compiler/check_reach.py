"""Checks of how the router reaches remote hosts, and what it sends there (KI276, KI277)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from kloros_infra.compiler.check_rpc import PRIVATE_NETWORKS
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.reach import as_address, host_of
from kloros_infra.diagnostics import Diagnostic, Severity

# RFC 4193, and loopback (RFC 4291, section 2.5.3).
PRIVATE: tuple[IPv4Network | IPv6Network, ...] = (*PRIVATE_NETWORKS, IPv6Network("fc00::/7"), IPv6Network("::1/128"))


def check_remote_reach(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find hosts for which the router's unit must be opened to every address, and secrets that anybody could read."""
    for name, host in parsed.config.hosts.items():
        upstream = host.upstream
        if upstream is None or host.address is None:
            continue
        if as_address(host.address) is None:
            yield parsed.locate(_by_name(name, host.address), ("hosts", name, "address"))
        if upstream.toggle is not None and as_address(host_of(upstream.toggle)) is None:
            problem = _by_name(f"The toggle of {name}", host_of(upstream.toggle))
            yield parsed.locate(problem, ("hosts", name, "upstream", "toggle"))
        if upstream.credential is not None and not upstream.tls and not _is_private(host.address):
            yield parsed.locate(_in_the_clear(name, host.address), ("hosts", name, "upstream", "credential"))


def _is_private(host: str) -> bool:
    address = as_address(host)
    return address is not None and any(address in network for network in PRIVATE)


def _by_name(what: str, host: str) -> Diagnostic:
    return Diagnostic(
        code="KI276",
        summary="Remote host known by name",
        detail=f"{what} is reached as {host}: as no unit can name the addresses behind a name, the router's may then"
        " connect to every address.",
        hint="Write its IP address, such as 100.64.0.7, where it keeps one.",
        severity=Severity.WARNING,
    )


def _in_the_clear(host: str, address: str) -> Diagnostic:
    return Diagnostic(
        code="KI277",
        summary="Credential sent in the clear",
        detail=f"The credential of {host} goes to {address} over plain HTTP, where others may read it.",
        hint="Add `tls: true`, or use an address of a private network, such as a VPN's.",
        severity=Severity.WARNING,
    )
