"""What a host gets that lends its cards: a unit for each RPC server, and what holds them.

llama.cpp's RPC has no authentication, and whoever reaches a server can make it read and write its memory
(llama.cpp, tools/rpc/README.md). So a server listens on one private address, takes packets of one interface, and
of its client's address alone: not of its own host's, where any user or page of a browser could send them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from kloros_infra.compiler.emit_env import cuda_variables
from kloros_infra.compiler.emit_host import LENDING_USERS, LLAMA_USER, emit_host
from kloros_infra.compiler.limits import CARD_BYTES, MIB
from kloros_infra.compiler.rendering import Rendering, rendering
from kloros_infra.compiler.rpc_hosts import RPC_SERVER
from kloros_infra.compiler.systemd_syntax import exec_start, unit_value
from kloros_infra.compiler.unit_lines import DENIED_CALLS
from kloros_infra.ir.artifact import Artifact, ArtifactTree, TextFile
from kloros_infra.ir.catalog import Catalog, Instance, RpcHost
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import LLM_TARGET, InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.rpc_server import HostPart, RpcServer
from kloros_infra.placement.remote import used_remotely

HOSTS_FOLDER = "hosts"
"""Where compile writes what other hosts get, each below its name."""

RESTART_S = 5


def emit_parts(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], templates: Mapping[str, str], layout: Layout
) -> tuple[HostPart, ...]:
    """Write what each host gets that lends cards, in the order of models.yaml; those with none in use get nothing."""
    prepared = rendering(templates, layout)
    return tuple(
        HostPart(host, servers, _tree(servers, catalog, prepared))
        for host in catalog.rpc_hosts
        if (servers := tuple(_servers(host, catalog, placements)))
    )


def with_parts(tree: ArtifactTree, parts: tuple[HostPart, ...]) -> ArtifactTree:
    """Put what other hosts get beside what this one gets, as it is reviewed."""
    others = {f"{HOSTS_FOLDER}/{part.host.name}/{path}": one for part in parts for path, one in part.tree.items()}
    return dict(sorted({**tree, **others}.items()))


def _servers(host: RpcHost, catalog: Catalog, placements: Mapping[InstanceId, Placement]) -> Iterator[RpcServer]:
    for instance in catalog.instances:
        used = used_remotely(placements[instance.id], instance)
        cards = tuple(card for card in used if card.host == host.name)
        if cards:
            yield RpcServer(instance.id, host, host.port_of(instance.id), cards)


def _tree(servers: tuple[RpcServer, ...], catalog: Catalog, prepared: Rendering) -> ArtifactTree:
    instances = {instance.id: instance for instance in catalog.instances}
    units = tuple(server.unit for server in servers)
    target = prepared.text("kloros-llm.target.j2", wants=" ".join(units), preloaded="")
    layout = prepared.layout
    artifacts: tuple[tuple[str, Artifact], ...] = (
        *((layout.unit_path(one.unit), TextFile(_unit(one, instances[one.instance], prepared))) for one in servers),
        (layout.unit_path(LLM_TARGET), TextFile(target)),
        *emit_host(prepared, LENDING_USERS),
    )
    return dict(sorted(artifacts))


def _unit(server: RpcServer, instance: Instance, prepared: Rendering) -> str:
    host = server.host
    return prepared.text(
        "kloros-rpc.service.j2",
        description=unit_value(f"ggml-rpc-server for {server.instance} ({instance.model.display_name})"),
        model_id=instance.model.id,
        user=LLAMA_USER,
        environment=tuple(f"{name}={value}" for name, value in sorted(cuda_variables(server.cards).items())),
        exec_start=exec_start((prepared.program(RPC_SERVER), *server_words(server))),
        restart_s=RESTART_S,
        memory_max=f"{_memory_max_bytes(server, instance) // MIB}M",
        clients=host.clients,
        interface=host.interface,
        denied_calls=DENIED_CALLS,
    )


def server_words(server: RpcServer) -> tuple[str, ...]:
    """Say how a server is started: with its devices by name, so that it does not lend the CPU where they are absent."""
    devices = ",".join(f"CUDA{index}" for index in range(len(server.cards)))
    return ("--host", server.host.address, "--port", str(server.port), "--device", devices)


def _memory_max_bytes(server: RpcServer, instance: Instance) -> int:
    """Count CUDA's contexts, and a tensor on its way: each is one message (ggml-rpc.cpp, SET_TENSOR)."""
    largest = max(group.size_bytes for group in instance.model.weights.header.tensors)
    return math.ceil((len(server.cards) * CARD_BYTES + 2 * largest) / MIB) * MIB
