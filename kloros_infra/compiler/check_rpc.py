"""Checks of hosts that lend their cards by RPC servers (KI270 to KI274).

ggml's RPC takes commands from whoever connects, so it must not be reached from outside. It speaks IPv4 alone
(llama.cpp, ggml-rpc/transport.cpp, create_server).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rpc_hosts import borrowers, lending_hosts, rpc_ports
from kloros_infra.compiler.unique import listeners
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import RpcSpec
from kloros_infra.ir.names import InstanceId

# RFC 1918, RFC 6598 (VPNs such as Tailscale take their addresses from it), and loopback (RFC 1122, section 3.2.1.3).
PRIVATE_NETWORKS = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"))
)
LOOPBACK = "127.0.0.1"
"""Where everything of ours listens; of other hosts only where one machine plays them all."""
LAST_PORT = 65535

Reason = Callable[[str], Diagnostic]
"""Says what is wrong with a host's address, given what makes it unusable."""


def check_rpc(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find RPC servers that could be reached from outside, or by nobody."""
    config = parsed.config
    lending = lending_hosts(config)
    for name in lending:
        yield from _address_problems(parsed, name, partial(_unusable_here, name))
        if not any(borrowers(config, name)):
            yield parsed.locate(_nobody_borrows(name), ("hosts", name, "rpc"), at_key=True)
    if lending:
        for name in _local_hosts(config):
            yield from _address_problems(parsed, name, partial(_unusable_there, name))
            yield from _meeting_problems(parsed, name, lending)
    yield from _port_problems(parsed)


def _local_hosts(config: Config) -> Iterator[str]:
    return (name for name, host in config.hosts.items() if host.role == "local")


def _address_problems(parsed: Parsed, name: str, unusable: Reason) -> Iterator[Diagnostic]:
    address = parsed.config.hosts[name].address
    found = _ipv4(address)
    if address is None or found is None:
        where, at_key = (("hosts", name), True) if address is None else (("hosts", name, "address"), False)
        yield parsed.locate(unusable("is no IPv4 address"), where, at_key=at_key)
    elif not any(found in network for network in PRIVATE_NETWORKS):
        yield parsed.locate(_public(name, address), ("hosts", name, "address"))
    elif any(found in (network.network_address, network.broadcast_address) for network in PRIVATE_NETWORKS):
        yield parsed.locate(unusable(f"({address}) is a network's and no host's"), ("hosts", name, "address"))


def _meeting_problems(parsed: Parsed, local: str, lending: Iterable[str]) -> Iterator[Diagnostic]:
    """Find addresses by which each host is sound and would yet meet itself in place of the other."""
    here = _ipv4(parsed.config.hosts[local].address)
    for name in lending:
        there = _ipv4(parsed.config.hosts[name].address)
        if here is None or there is None or (here.is_loopback and there.is_loopback):
            continue  # Loopback on both sides is one machine that plays both.
        if there == here or there.is_loopback:
            reason = f"({there}) is {local}'s own" if there == here else f"({there}) is each machine's own"
            yield parsed.locate(_unusable_here(name, reason), ("hosts", name, "address"))
        elif here.is_loopback:
            reason = f"({here}) is each machine's own"
            yield parsed.locate(_unusable_there(local, reason), ("hosts", local, "address"))
            return


def _ipv4(address: str | None) -> IPv4Address | None:
    try:
        return None if address is None else IPv4Address(address)
    except ValueError:
        return None


def _port_problems(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find ports that do not exist, or that something else has at the same address."""
    config = parsed.config
    owners = {
        (LOOPBACK, listener.port): listener.name
        for local in _local_hosts(config)
        if config.hosts[local].address == LOOPBACK
        for listener in listeners(config)
    }
    for name, rpc in lending_hosts(config).items():
        address = config.hosts[name].address or name
        ports = rpc_ports(config, name, rpc)
        problems = (_port_problem(name, rpc, one, owners.get((address, one[1]))) for one in ports)
        first = next(filter(None, problems), None)
        if first is not None:
            yield parsed.locate(first, ("hosts", name, "rpc", *(("port_offset",) if rpc.port_offset else ())))
        owners |= {(address, port): f"{name}'s server for {instance}" for instance, port in ports}


def _port_problem(host: str, rpc: RpcSpec, one: tuple[InstanceId, int], owner: str | None) -> Diagnostic | None:
    instance, port = one
    if port > LAST_PORT:
        return _too_high(host, instance, port, rpc.port_offset)
    return None if owner is None else _taken(host, instance, port, owner)


def _unusable_here(host: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI270",
        summary="RPC without a usable address",
        detail=f"{host} lends its cards, and its `address` {reason}: nobody would reach its RPC servers.",
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


def _unusable_there(host: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI272",
        summary="RPC servers do not know their client",
        detail=f"RPC servers take packets of {host}'s address alone, and its `address` {reason}.",
        hint=f"Add to {host} the `address` that it has in the network of the hosts with `rpc`, such as 100.64.0.3.",
    )


def _too_high(host: str, instance: InstanceId, port: int, offset: int) -> Diagnostic:
    return Diagnostic(
        code="KI273",
        summary="Ports of RPC servers do not fit",
        detail=f"The port of {instance}, {port - offset}, and `port_offset` {offset} make {port} for its server on"
        f" {host}; the last port is {LAST_PORT}.",
        hint="Add less.",
    )


def _taken(host: str, instance: InstanceId, port: int, owner: str) -> Diagnostic:
    return Diagnostic(
        code="KI273",
        summary="Ports of RPC servers do not fit",
        detail=f"{host}'s server for {instance} would have port {port}, which {owner} has at the same address.",
        hint="Give each host its own address, or give one another `rpc.port_offset`.",
    )


def _nobody_borrows(host: str) -> Diagnostic:
    return Diagnostic(
        code="KI274",
        summary="Cards that are lent to nobody",
        detail=f"{host} has `rpc`, and no profile that a model runs under has a card of it.",
        hint=f"Add a card of {host} to a profile's `gpus`, or take `rpc` out.",
        severity=Severity.WARNING,
    )
