"""The units: one per instance, one target per profile, the bus, the router, and the target that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from kloros_infra.compiler.emit_command import server_words
from kloros_infra.compiler.emit_env import PROMPT_CACHE_MIB
from kloros_infra.compiler.emit_host import LLAMA_USER, SERVER_USER
from kloros_infra.compiler.limits import MIB, RESTART_LIMIT, RESTART_S, memory_max_bytes, start_limit_interval_s
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.compiler.systemd_syntax import exec_start, unit_value
from kloros_infra.ir.card_share import CardShare, shares_text
from kloros_infra.ir.catalog import BusAddresses, Catalog, Instance, Profile
from kloros_infra.ir.names import BUS_UNIT, LLM_TARGET, PROFILE_UNIT, ROUTER_UNIT, profile_target
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.predicted_speed import predicted_text
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.engines.interface import FIT

LLAMA_SERVER = "llama-server"
KLOROS_INFRA = "kloros-infra"
"""Names of launchers: small scripts that apply writes, because where programs lie is the machine's business."""

SERVER_START_LIMIT = {"restart_s": 1, "start_limit_burst": 10, "start_limit_interval_s": 60}
"""The bus and the router start within a second; ten failures a minute are a fault that no restart mends."""


def emit_instance(
    instance: Instance, placement: Placement, *, catalog: Catalog, env_file: str, rendering: Rendering
) -> str:
    """Write the unit of one instance; `env_file` is relative, as in the tree."""
    model, layout, sandbox = instance.model, rendering.layout, catalog.sandbox
    files = model_files(model, layout)
    memory_max = memory_max_bytes(
        placement,
        weights_bytes=files.size_bytes,
        prompt_cache_bytes=PROMPT_CACHE_MIB * MIB,
        headroom_bytes=sandbox.memory_headroom_bytes,
    )
    return rendering.text(
        "llama.service.j2",
        description=unit_value(f"llama-server {instance.id} ({model.display_name})"),
        model_id=model.id,
        weights=f"sha256:{model.weights.sha256}" if model.weights.sha256 else "derived",
        placement=unit_value(placement.engine),
        card_shares=shares_text(_card_shares(placement)),
        predicted_speed=_predicted_speed(placement),
        targets=f"{LLM_TARGET} {profile_target(instance.profile.name)}",
        conflicts=_units(rival for rival in catalog.instances if _is_same_model_elsewhere(instance, rival)),
        after=_units(_predecessors(instance, catalog)),
        weights_paths=tuple(layout.absolute(stored.path) for stored in files.all),
        start_limit_interval_s=start_limit_interval_s(files.size_bytes),
        start_limit_burst=RESTART_LIMIT,
        user=LLAMA_USER,
        restart_s=RESTART_S,
        env_path=layout.absolute(env_file),
        exec_start=exec_start((rendering.program(LLAMA_SERVER), *server_words(instance, placement))),
        memory_max=f"{memory_max // MIB}M",
        cpu_weight=sandbox.cpu_weight,
        io_weight=sandbox.io_weight,
        read_only_paths=tuple(unit_value(path) for path in sandbox.read_only_paths),
        exec_start_pre=_awaits_servers(placement, rendering),
        remote_addresses=tuple(dict.fromkeys(one.rpartition(":")[0] for one in placement.endpoints)),
        has_cards=bool(instance.profile.local_cards),
    )


def _awaits_servers(placement: Placement, rendering: Rendering) -> str | None:
    """Write the command that waits for the RPC servers which an instance needs."""
    words = (rendering.program(KLOROS_INFRA), "await_rpc", *placement.endpoints)
    return exec_start(words) if placement.endpoints else None


def _card_shares(placement: Placement) -> Iterator[CardShare]:
    """Say what plan adds up for each card; megabytes that are begun count whole."""
    for load in placement.loads:
        if load.card is not None and load.capacity_bytes is not None:
            yield CardShare(load.card, math.ceil(load.total_bytes / MIB), load.capacity_bytes // MIB)


def _predicted_speed(placement: Placement) -> str:
    """Say what plan compares; what llama-server will decide when it starts is not known."""
    if placement.predicted is None or placement.engine == FIT:
        return ""
    return predicted_text(placement.predicted)


def emit_services(catalog: Catalog, rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Write every unit that is no instance: pairs of unit and text."""
    if catalog.bus.is_managed:
        yield BUS_UNIT, _bus(catalog.bus, rendering)
    yield ROUTER_UNIT, _router(catalog, rendering)
    yield PROFILE_UNIT, _profile_choice(catalog, rendering)
    for profile in catalog.profiles:
        yield profile_target(profile.name), _profile(profile, catalog, rendering)
    yield LLM_TARGET, rendering.text("kloros-llm.target.j2", wants=" ".join(_servers(catalog)))


def _is_same_model_elsewhere(instance: Instance, other: Instance) -> bool:
    return other.model.id == instance.model.id and other.profile != instance.profile


def _predecessors(instance: Instance, catalog: Catalog) -> Iterator[Instance]:
    """List instances of earlier profiles whose cards or port this one may be waiting for.

    A unit that stops and one that starts are ordered by After= in either direction, stop first (systemd.unit(5)), so
    that a profile switch frees VRAM before it fills it. One direction also keeps a stop of all of them free of cycles.
    """
    order = [profile.name for profile in catalog.profiles]
    earlier = frozenset(order[: order.index(instance.profile.name)])
    cards = set(instance.profile.cards)
    for other in catalog.instances:
        if other.profile.name in earlier and (cards & set(other.profile.cards) or other.model.id == instance.model.id):
            yield other


def _units(instances: Iterable[Instance]) -> str:
    return " ".join(sorted(instance.id.unit for instance in instances))


def _servers(catalog: Catalog) -> tuple[str, ...]:
    bus = (BUS_UNIT,) if catalog.bus.is_managed else ()
    return (*bus, ROUTER_UNIT, PROFILE_UNIT)


def _profile(profile: Profile, catalog: Catalog, rendering: Rendering) -> str:
    members = (instance for instance in catalog.instances if instance.profile.name == profile.name)
    others = (other.name for other in catalog.profiles if other.name != profile.name)
    cards = ", ".join(card.name for card in profile.cards) or "no GPU"
    return rendering.text(
        "profile.target.j2",
        description=unit_value(f"KLoROS language models under profile {profile.name} ({cards})"),
        conflicts=" ".join(sorted(profile_target(name) for name in others)),
        wants=_units(instance for instance in members if instance.serving.preload),
    )


def _profile_choice(catalog: Catalog, rendering: Rendering) -> str:
    routing = rendering.layout.absolute(rendering.layout.routing)
    command = (rendering.program(KLOROS_INFRA), "profile", "start", "--routing", routing)
    addresses = tuple(dict.fromkeys(host.address for host in catalog.rpc_hosts))
    return rendering.text("kloros-profile.service.j2", exec_start=exec_start(command), addresses=addresses)


def _bus(bus: BusAddresses, rendering: Rendering) -> str:
    command = (rendering.program(KLOROS_INFRA), "bus", "--xsub", bus.xsub, "--xpub", bus.xpub)
    return _server("KLoROS ChemBus proxy", command, after="", rendering=rendering)


def _router(catalog: Catalog, rendering: Rendering) -> str:
    """The router notices a new routing table by itself, so it has no ExecReload=."""
    routing = rendering.layout.absolute(rendering.layout.routing)
    command = (rendering.program(KLOROS_INFRA), "router", "--routing", routing, "--log-level", catalog.log_level)
    after = BUS_UNIT if catalog.bus.is_managed else ""
    return _server("KLoROS language model router", command, after=after, rendering=rendering)


def _server(description: str, command: tuple[str, ...], *, after: str, rendering: Rendering) -> str:
    return rendering.text(
        "server.service.j2",
        description=description,
        after=after,
        user=SERVER_USER,
        exec_start=exec_start(command),
        **SERVER_START_LIMIT,
    )
