"""The units that are no instances: the bus, the router, those that look at cards, and the targets that hold all."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.emit_cards import emit_cards, followers
from kloros_infra.compiler.emit_host import BUS_USER, ROUTER_USER
from kloros_infra.compiler.reach import addresses_of
from kloros_infra.compiler.rendering import KLOROS_INFRA, Rendering
from kloros_infra.compiler.surroundings import unit_list
from kloros_infra.compiler.systemd_syntax import exec_start, unit_value
from kloros_infra.compiler.unit_lines import DENIED_CALLS, for_version
from kloros_infra.ir.catalog import Catalog, Profile
from kloros_infra.ir.catalog_services import BusAddresses
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import BUS_UNIT, LLM_TARGET, PROFILE_UNIT, ROUTER_UNIT, profile_target

SERVER_START_LIMIT = {"restart_s": 1, "start_limit_burst": 10, "start_limit_interval_s": 60}
"""The bus and the router start within a second; ten failures a minute are a fault that no restart mends."""

JOURNAL_GROUP = "systemd-journal"
"""Who is in it may read the journal (systemd-journald.service(8)): why a model failed to load stands there."""
CREDENTIAL_PREFIX = "kloros-infra."
"""Begins the names of our secrets in /etc/credstore, which every service of the machine has its own in."""


def emit_services(catalog: Catalog, rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Write every unit that is no instance: pairs of unit and text."""
    if catalog.bus.is_managed:
        yield BUS_UNIT, for_version(_bus(catalog.bus, rendering), catalog.systemd_version)
    yield ROUTER_UNIT, for_version(_router(catalog, rendering), catalog.systemd_version)
    for unit, text in emit_cards(catalog, rendering):
        yield unit, for_version(text, catalog.systemd_version)
    for profile in catalog.profiles:
        yield profile_target(profile.name), _profile(profile, catalog, rendering)
    preloaded = unit_list(instance for instance in catalog.instances if instance.serving.preload)
    servers = " ".join(_servers(catalog, rendering.layout))
    yield LLM_TARGET, rendering.text("kloros-llm.target.j2", wants=servers, preloaded=preloaded)


def _servers(catalog: Catalog, layout: Layout) -> tuple[str, ...]:
    bus = (BUS_UNIT,) if catalog.bus.is_managed else ()
    return (*bus, ROUTER_UNIT, PROFILE_UNIT, *followers(catalog, layout))


def _profile(profile: Profile, catalog: Catalog, rendering: Rendering) -> str:
    others = (other.name for other in catalog.profiles if other.name != profile.name)
    cards = ", ".join(card.name for card in profile.cards) or "no GPU"
    return rendering.text(
        "profile.target.j2",
        description=unit_value(f"KLoROS language models under profile {profile.name} ({cards})"),
        conflicts=" ".join(sorted(profile_target(name) for name in others)),
    )


def _bus(bus: BusAddresses, rendering: Rendering) -> str:
    command = (rendering.program(KLOROS_INFRA), "bus", "--xsub", bus.xsub, "--xpub", bus.xpub)
    return rendering.text(
        "server.service.j2",
        description="KLoROS ChemBus proxy",
        after="",
        user=BUS_USER,
        exec_start=exec_start(command),
        denied_calls=DENIED_CALLS,
        state_directory="",
        credentials=(),
        addresses=(),
        has_cards=False,
        **SERVER_START_LIMIT,
    )


def _router(catalog: Catalog, rendering: Rendering) -> str:
    """The router notices a new routing table by itself, so it has no ExecReload=."""
    layout = rendering.layout
    routing = layout.absolute(layout.routing)
    command = (rendering.program(KLOROS_INFRA), "router", "--routing", routing, "--log-level", catalog.log_level)
    return rendering.text(
        "server.service.j2",
        description="KLoROS language model router",
        after=BUS_UNIT if catalog.bus.is_managed else "",
        user=ROUTER_USER,
        exec_start=exec_start(command),
        denied_calls=DENIED_CALLS,
        journal_group=JOURNAL_GROUP,
        state_directory=layout.router_state.rpartition("/")[2],
        runtime_directory=layout.router_run.rpartition("/")[2],
        credentials=tuple(f"{name}:{CREDENTIAL_PREFIX}{name}" for name in credentials_of(catalog)),
        addresses=addresses_of(catalog.remote_hosts),
        has_cards=any(card.remote is None for profile in catalog.profiles for card in profile.cards),
        **SERVER_START_LIMIT,
    )


def credentials_of(catalog: Catalog) -> tuple[str, ...]:
    """List the secrets that the router needs, by their names in models.yaml."""
    clients = (client.credential for client in catalog.clients)
    hosts = (host.credential for host in catalog.remote_hosts)
    return tuple(sorted({name for name in (catalog.bridge.credential, *clients, *hosts) if name is not None}))
