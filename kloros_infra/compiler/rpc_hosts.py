"""Which hosts lend their cards, at which ports, and to whom.

An RPC server serves one client at a time: a second one waits until the first has gone (llama.cpp, issue 28908). So each
instance that may use a host's cards has a server of its own there.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.ir.catalog import RemoteLink, RpcHost
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import HostSpec, RpcSpec
from kloros_infra.ir.names import InstanceId

RPC_SERVER = "ggml-rpc-server"


def lending_hosts(config: Config) -> dict[str, HostSpec]:
    """Find the hosts whose cards profiles may use although they are in another machine."""
    return {name: host for name, host in config.hosts.items() if host.role == "remote" and host.rpc is not None}


def borrowers(config: Config, host: str) -> Iterator[InstanceId]:
    """List the instances whose profile has a card of a host, in the order of the file."""
    profiles = {
        name
        for name, profile in config.profiles.items()
        if any(config.gpus[gpu].host == host for gpu in profile.gpus if gpu in config.gpus)
    }
    for model in config.models:
        if model.version_in_use is None:
            continue
        for name, instance in model.profiles.items():
            if instance is not None and name in profiles:
                yield InstanceId(model=model.unit_name, profile=name)


def rpc_ports(config: Config, host: str, rpc: RpcSpec) -> tuple[tuple[InstanceId, int], ...]:
    """Give each instance a port, whatever of the host it is placed on: so a port does not depend on another model."""
    return tuple((instance, rpc.port + index) for index, instance in enumerate(borrowers(config, host)))


def remote_link(config: Config, host: str) -> RemoteLink | None:
    """Say how the cards of a host are reached; None for those of the local host."""
    spec = lending_hosts(config).get(host)
    if spec is None or spec.rpc is None or spec.address is None:
        return None
    ports = tuple(port for _, port in rpc_ports(config, host, spec.rpc))
    return RemoteLink(spec.address, ports, spec.rpc.bandwidth)


def rpc_hosts(config: Config, local: str) -> tuple[RpcHost, ...]:
    """List the hosts of which profiles use cards, in the order of the file; the local host is their only client."""
    own = config.hosts[local].address
    return tuple(_rpc_hosts(config, () if own is None else (own,)))


def _rpc_hosts(config: Config, clients: tuple[str, ...]) -> Iterator[RpcHost]:
    for name, host in lending_hosts(config).items():
        if host.rpc is None or host.address is None:
            continue
        ports = rpc_ports(config, name, host.rpc)
        if ports:
            yield RpcHost(name, host.address, host.rpc.interface, _program(host, host.rpc), clients, ports)


def _program(host: HostSpec, rpc: RpcSpec) -> str:
    return rpc.program or f"{host.llama_server.rpartition('/')[0]}/{RPC_SERVER}"
