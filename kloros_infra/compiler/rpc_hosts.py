"""Which hosts lend their cards, at which ports, and to whom.

An RPC server serves one client at a time: a second one waits until the first has gone (llama.cpp, issue 28908). So each
instance that may use a host's cards has a server of its own there.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.instance_ports import instance_ports
from kloros_infra.ir.catalog import RemoteLink, RpcHost
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import RpcSpec
from kloros_infra.ir.names import InstanceId

RPC_SERVER = "ggml-rpc-server"


def lending_hosts(config: Config) -> dict[str, RpcSpec]:
    """Find the hosts whose cards profiles may use although they are in another machine."""
    return {name: host.rpc for name, host in config.hosts.items() if host.role == "remote" and host.rpc is not None}


def borrowers(config: Config, host: str) -> Iterator[tuple[InstanceId, int]]:
    """List the instances whose profile has a card of a host, in the order of the file, each with its port."""
    profiles = {
        name
        for name, profile in config.profiles.items()
        if any(config.gpus[gpu].host == host for gpu in profile.gpus if gpu in config.gpus)
    }
    for model, ports in zip(config.models, instance_ports(config), strict=True):
        if model.version_in_use is None:
            continue
        for name, port in ports.items():
            if name in profiles:
                yield InstanceId(model=model.unit_name, profile=name), port


def rpc_ports(config: Config, host: str, rpc: RpcSpec) -> tuple[tuple[InstanceId, int], ...]:
    """Give each instance a port that depends on its own alone, which no other instance has (KI203).

    Hosts are applied one after the other: a port that moved with other models would be another's server meanwhile.
    """
    return tuple((instance, port + rpc.port_offset) for instance, port in borrowers(config, host))


def remote_link(config: Config, host: str) -> RemoteLink | None:
    """Say how the cards of a host are reached; None for those of the local host."""
    rpc, address = lending_hosts(config).get(host), config.hosts[host].address
    if rpc is None or address is None:
        return None
    return RemoteLink(address, tuple(port for _, port in rpc_ports(config, host, rpc)), rpc.bandwidth)


def rpc_hosts(config: Config, local: str) -> Iterator[RpcHost]:
    """List the hosts of which profiles use cards, in the order of the file; the local host is their only client."""
    own = config.hosts[local].address
    clients = () if own is None else (own,)
    for name, rpc in lending_hosts(config).items():
        link = remote_link(config, name)
        if link is not None and link.ports:
            beside = config.hosts[name].llama_server.rpartition("/")[0]
            program = rpc.program or f"{beside}/{RPC_SERVER}"
            yield RpcHost(name, link.address, rpc.interface, program, clients, rpc_ports(config, name, rpc))
