"""Checks of hosts that lend their cards by RPC servers (KI270 to KI274).

ggml's RPC takes commands from whoever connects, so it must not be reached from outside. It speaks IPv4 alone
(llama.cpp, ggml-rpc/transport.cpp, create_server).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rpc_hosts import borrowers, lending_hosts, rpc_ports
from kloros_infra.diagnostics import Diagnostic, Severity

# RFC 1918, RFC 6598 (VPNs such as Tailscale take their addresses from it), and loopback (RFC 1122, section 3.2.1.3).
PRIVATE_NETWORKS = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"))
)
LAST_PORT = 65535


def check_rpc(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find RPC servers that could be reached from outside, or by nobody."""
    config = parsed.config
    lending = lending_hosts(config)
    for name in lending:
        yield from _address_problems(parsed, name, _unusable_here(name))
        if not any(borrowers(config, name)):
            yield parsed.locate(_nobody_borrows(name), ("hosts", name, "rpc"), at_key=True)
    if lending:
        for name, host in config.hosts.items():
            if host.role == "local":
                yield from _address_problems(parsed, name, _unusable_there(name))
    yield from _port_problems(parsed)


def _address_problems(parsed: Parsed, name: str, unusable: Diagnostic) -> Iterator[Diagnostic]:
    address = parsed.config.hosts[name].address
    if address is None:
        yield parsed.locate(unusable, ("hosts", name), at_key=True)
        return
    try:
        found = IPv4Address(address)
    except ValueError:
        yield parsed.locate(unusable, ("hosts", name, "address"))
        return
    if not any(found in network for network in PRIVATE_NETWORKS):
        yield parsed.locate(_public(name, address), ("hosts", name, "address"))


def _port_problems(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find ports that do not exist, or that are another host's at the same address."""
    config = parsed.config
    owners: dict[tuple[str, int], str] = {}
    for name, rpc in lending_hosts(config).items():
        ports = [port for _, port in rpc_ports(config, name, rpc)]
        address = config.hosts[name].address or name
        taken = next((owners[address, port] for port in ports if (address, port) in owners), None)
        if ports and ports[-1] > LAST_PORT:
            yield parsed.locate(_too_high(name, ports), ("hosts", name, "rpc", "port"))
        elif taken is not None:
            yield parsed.locate(_taken(name, taken, ports), ("hosts", name, "rpc", "port"))
        owners |= {(address, port): name for port in ports}


def _unusable_here(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI270",
        summary="RPC without a usable address",
        detail=f"{host} lends its cards, and its `address` is no IPv4 address: ggml-rpc-server takes no other.",
        hint="Write the IPv4 address that it has in a private network, such as 192.168.1.20 or 100.64.0.7.",
    )


def _public(host: str, address: str) -> Diagnostic:
    return Diagnostic(
        code="KI271",
        summary="RPC on an address that is not private",
        detail=f"{host} has {address}, which is not of a private network; ggml's RPC has no authentication, and whoever"
        " reaches it can take the machine over.",
        hint="Use an address of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10, such as a VPN's.",
    )


def _unusable_there(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI272",
        summary="RPC servers do not know their client",
        detail=f"RPC servers take packets of {host}'s address alone, and it has no IPv4 `address` here.",
        hint=f"Add to {host} the `address` that it has in the network of the hosts with `rpc`, such as 100.64.0.3.",
    )


def _too_high(host: str, ports: list[int]) -> Diagnostic:
    return Diagnostic(
        code="KI273",
        summary="Ports of RPC servers do not fit",
        detail=f"{host} needs {len(ports)} ports from {ports[0]} on, one for each model under each profile with its"
        f" cards; the last would be {ports[-1]}, and there are {LAST_PORT}.",
        hint="Begin with a lower `rpc.port`.",
    )


def _taken(host: str, other: str, ports: list[int]) -> Diagnostic:
    return Diagnostic(
        code="KI273",
        summary="Ports of RPC servers do not fit",
        detail=f"{host} and {other} have the same address, and ports of {host} from {ports[0]} to {ports[-1]} are"
        f" {other}'s.",
        hint="Give each host its own address, or give one a `rpc.port` beyond the other's ports.",
    )


def _nobody_borrows(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI274",
        summary="Cards that are lent to nobody",
        detail=f"{host} has `rpc`, and no profile that a model runs under has a card of it.",
        hint=f"Add a card of {host} to a profile's `gpus`, or take `rpc` out.",
        severity=Severity.WARNING,
    )
