"""The units: one per instance, one target per profile, the bus, the router, and the target that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kloros_infra.compiler.emit_command import server_words
from kloros_infra.compiler.emit_env import PROMPT_CACHE_MIB
from kloros_infra.compiler.emit_host import LLAMA_USER, SERVER_USER
from kloros_infra.compiler.limits import (
    MIB,
    RESTART_LIMIT,
    RESTART_MAX_S,
    RESTART_S,
    RESTART_STEPS,
    RESTART_STEPS_SINCE,
    memory_max_bytes,
    start_limit_interval_s,
)
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.compiler.surroundings import Surroundings, unit_list
from kloros_infra.compiler.systemd_syntax import exec_start, unit_value
from kloros_infra.compiler.unit_lines import (
    RESOURCES,
    for_version,
    further_limits,
    relaxations,
    relaxed_words,
    resource_arguments,
    without,
)
from kloros_infra.ir.card_share import CONTEXT_BYTES, CardShare, shares_text
from kloros_infra.ir.catalog import BusAddresses, Catalog, Instance, Profile, Sandbox
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.names import BUS_UNIT, LLM_TARGET, PROFILE_UNIT, ROUTER_UNIT, profile_target
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.predicted_speed import predicted_text
from kloros_infra.ir.rpc_server import awaited_text
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.engines.interface import FIT

LLAMA_SERVER = "llama-server"
KLOROS_INFRA = "kloros-infra"
"""Names of launchers: small scripts that apply writes, because where programs lie is the machine's business."""

DENIED_CALLS = f"@privileged {RESOURCES}"
"""Of what services usually need, these groups of system calls are left out; systemd.exec(5), SystemCallFilter=."""

SERVER_START_LIMIT = {"restart_s": 1, "start_limit_burst": 10, "start_limit_interval_s": 60}
"""The bus and the router start within a second; ten failures a minute are a fault that no restart mends."""


def emit_instance(
    instance: Instance, placement: Placement, *, around: Surroundings, env_file: str, rendering: Rendering
) -> str:
    """Write the unit of one instance; `env_file` is relative, as in the tree."""
    model, layout, sandbox = instance.model, rendering.layout, around.sandbox
    files = model_files(model, layout)
    memory_max = memory_max_bytes(
        placement,
        weights_bytes=files.size_bytes,
        prompt_cache_bytes=PROMPT_CACHE_MIB * MIB,
        headroom_bytes=sandbox.memory_headroom_bytes,
    )
    text = rendering.text(
        "llama.service.j2",
        description=unit_value(f"llama-server {instance.id} ({model.display_name})"),
        model_id=model.id,
        weights=" ".join(_digest(stored.weights) for stored in files.all),
        placement=unit_value(placement.engine),
        on_change=instance.serving.on_change,
        card_shares=shares_text(_card_shares(placement)),
        predicted_speed=_predicted_speed(placement),
        endpoints=awaited_text(placement.endpoints),
        targets=f"{LLM_TARGET} {profile_target(instance.profile.name)}",
        conflicts=around.conflicts,
        after=around.after,
        weights_paths=tuple(layout.absolute(stored.path) for stored in files.all),
        user=LLAMA_USER,
        env_path=layout.absolute(env_file),
        exec_start=exec_start((rendering.program(LLAMA_SERVER), *server_words(instance, placement))),
        memory_max=f"{memory_max // MIB}M",
        exec_start_pre=_awaits_servers(placement, rendering),
        remote_addresses=tuple(dict.fromkeys(one.rpartition(":")[0] for one in placement.endpoints)),
        has_cards=bool(instance.profile.local_cards),
        **_restarts(files.size_bytes, around.systemd_version),
        **_sandbox(instance, sandbox),
    )
    relaxed = {directive for relaxation in relaxations(instance, sandbox) for directive in relaxation.directives}
    return for_version(without(text, relaxed), around.systemd_version)


def _digest(weights: LockedWeights) -> str:
    return f"sha256:{weights.sha256}" if weights.sha256 else "derived"


def _restarts(weights_bytes: int, systemd_version: int) -> dict[str, object]:
    """Say how a crashed instance comes back, and when it is given up."""
    has_steps = systemd_version >= RESTART_STEPS_SINCE
    longest_s = RESTART_MAX_S if has_steps else RESTART_S
    return {
        "restart_s": RESTART_S,
        "restart_steps": RESTART_STEPS if has_steps else None,
        "restart_max_s": longest_s,
        "start_limit_burst": RESTART_LIMIT,
        "start_limit_interval_s": start_limit_interval_s(weights_bytes, pause_s=longest_s),
    }


def _sandbox(instance: Instance, sandbox: Sandbox) -> dict[str, object]:
    """Say what an instance may do and take."""
    needs_resources = bool(resource_arguments(instance))
    return {
        # systemd expands nothing in X- keys, and the text of models.yaml is one line.
        "relaxed": tuple(relaxed_words(instance, sandbox)),
        "limits": tuple(further_limits(instance)),
        "denied_calls": DENIED_CALLS.removesuffix(f" {RESOURCES}") if needs_resources else DENIED_CALLS,
        "cpu_weight": sandbox.cpu_weight,
        "io_weight": sandbox.io_weight,
        "read_only_paths": tuple(unit_value(path) for path in sandbox.read_only_paths),
    }


def _awaits_servers(placement: Placement, rendering: Rendering) -> str | None:
    """Write the command that waits for the RPC servers which an instance needs."""
    words = (rendering.program(KLOROS_INFRA), "await_rpc", *placement.endpoints)
    return exec_start(words) if placement.endpoints else None


def _card_shares(placement: Placement) -> Iterator[CardShare]:
    """Say what plan adds up for each card; megabytes that are begun count whole.

    Each server has a context there. Usable memory leaves one out, so that is on both sides.
    """
    for load in placement.loads:
        if load.card is not None and load.capacity_bytes is not None:
            used_bytes, holds_bytes = load.total_bytes + CONTEXT_BYTES, load.capacity_bytes + CONTEXT_BYTES
            yield CardShare(load.card, math.ceil(used_bytes / MIB), holds_bytes // MIB)


def _predicted_speed(placement: Placement) -> str:
    """Say what plan compares; what llama-server will decide when it starts is not known."""
    if placement.predicted is None or placement.engine == FIT:
        return ""
    return predicted_text(placement.predicted)


def emit_services(catalog: Catalog, rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Write every unit that is no instance: pairs of unit and text."""
    if catalog.bus.is_managed:
        yield BUS_UNIT, for_version(_bus(catalog.bus, rendering), catalog.systemd_version)
    yield ROUTER_UNIT, for_version(_router(catalog, rendering), catalog.systemd_version)
    yield PROFILE_UNIT, for_version(_profile_choice(catalog, rendering), catalog.systemd_version)
    for profile in catalog.profiles:
        yield profile_target(profile.name), _profile(profile, catalog, rendering)
    yield LLM_TARGET, rendering.text("kloros-llm.target.j2", wants=" ".join(_servers(catalog)))


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
        wants=unit_list(instance for instance in members if instance.serving.preload),
    )


def _profile_choice(catalog: Catalog, rendering: Rendering) -> str:
    routing = rendering.layout.absolute(rendering.layout.routing)
    command = (rendering.program(KLOROS_INFRA), "profile", "start", "--routing", routing)
    addresses = tuple(dict.fromkeys(host.address for host in catalog.rpc_hosts))
    return rendering.text(
        "kloros-profile.service.j2",
        exec_start=exec_start(command),
        denied_calls=DENIED_CALLS,
        addresses=addresses,
    )


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
        denied_calls=DENIED_CALLS,
        **SERVER_START_LIMIT,
    )
