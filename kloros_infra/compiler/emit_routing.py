"""routing.json: the part of the catalog that the router needs, under a schema version of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from kloros_infra.compiler.emit_env import UPSTREAM_HOST
from kloros_infra.compiler.kept_instances import InstanceTexts
from kloros_infra.compiler.limits import MIB
from kloros_infra.compiler.placed import card_shares, foreseen
from kloros_infra.compiler.surroundings import beside
from kloros_infra.ir.announcements import Announcements
from kloros_infra.ir.catalog import (
    Card,
    Catalog,
    Instance,
    Model,
    Persona,
    Profile,
    Purpose,
)
from kloros_infra.ir.catalog_requests import Client, RemoteHost, RemoteModel
from kloros_infra.ir.catalog_services import BridgeAddresses, BusAddresses
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.load_time import expected_load_s
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.predicted_speed import three_digits
from kloros_infra.ir.requests import ClientAccess
from kloros_infra.ir.routing import (
    SCHEMA_VERSION,
    RoutedAnnouncements,
    RoutedBridge,
    RoutedBus,
    RoutedCapacity,
    RoutedCard,
    RoutedClient,
    RoutedHost,
    RoutedModel,
    RoutedPersona,
    RoutedPolicies,
    RoutedProfile,
    RoutedPurpose,
    RoutedShare,
    RoutingTable,
    Upstream,
)
from kloros_infra.ir.stored_weights import model_files

Placements = Mapping[InstanceId, Placement]
Texts = Mapping[InstanceId, InstanceTexts]

_NOWHERE: Placements = MappingProxyType({})
_UNWRITTEN: Texts = MappingProxyType({})


def emit_routing(catalog: Catalog, layout: Layout, placements: Placements = _NOWHERE, texts: Texts = _UNWRITTEN) -> str:
    """Write the routing table as JSON: keys sorted, lists in the order of models.yaml."""
    # What is as the version of the table has it anyway is left out: most of a large table says the same again.
    table = routing_table(catalog, layout, placements, texts).model_dump(mode="json", exclude_defaults=True)
    return json.dumps(table, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def routing_table(
    catalog: Catalog, layout: Layout, placements: Placements = _NOWHERE, texts: Texts = _UNWRITTEN
) -> RoutingTable:
    """Say what the router must know; models that only other hosts serve come last."""
    upstreams: dict[str, list[Upstream]] = {}
    written = {one.id: one for one in catalog.instances if one.shared_with is None}
    apart = beside(catalog, placements)
    for instance in catalog.instances:
        owner = instance if instance.shared_with is None else written[instance.shared_with]
        found = upstream(owner, placements.get(owner.id), texts.get(owner.id), layout)
        names = tuple(sorted(str(other.id) for other in apart[owner.id]))
        found = found.model_copy(update={"profile": instance.profile.name, "beside": names})
        upstreams.setdefault(instance.model.id, []).append(found)
    return RoutingTable(
        version=SCHEMA_VERSION,
        profiles=tuple(_profile(profile) for profile in catalog.profiles),
        profile_file=layout.absolute(layout.profile_file),
        models=(
            *(_model(model, upstreams.get(model.id, ())) for model in catalog.models),
            *map(_remote_model, catalog.remote_models),
        ),
        personas=tuple(_persona(persona) for persona in catalog.personas),
        purposes=tuple(_purpose(purpose) for purpose in catalog.purposes),
        bus=_bus(catalog.bus, layout),
        bridge=_bridge(catalog.bridge),
        capacities=tuple(_capacities(placements.values())),
        hosts=tuple(map(_host, catalog.remote_hosts)),
        policies=_policies(catalog),
        leases_file=layout.absolute(layout.leases_file),
        answers_file=layout.absolute(layout.answers_file),
        cards_file=layout.absolute(layout.cards_file) if catalog.cards else None,
        control_socket=layout.absolute(layout.control_socket),
        unused_cards=tuple(map(_card, catalog.unused_cards)),
        announcements=_announcements(catalog.announcements) if catalog.announcements else None,
        metrics_port=catalog.metrics_port,
    )


def _bus(bus: BusAddresses, layout: Layout) -> RoutedBus:
    # A socket lies where the installation does.
    direct = bus.direct.replace("ipc://", f"ipc://{layout.prefix}") if bus.direct else None
    return RoutedBus(xsub=bus.xsub, xpub=bus.xpub, direct=direct, has_voice=bus.has_voice)


def _bridge(bridge: BridgeAddresses) -> RoutedBridge:
    return RoutedBridge(
        host=bridge.host,
        ports=bridge.ports,
        credential=bridge.credential,
        max_queued=bridge.max_queued,
        first_byte_timeout_s=bridge.first_byte_timeout_s,
        stall_timeout_s=bridge.stall_timeout_s,
    )


def _capacities(placements: Iterable[Placement]) -> Iterator[RoutedCapacity]:
    """Say what each card that an instance is placed on can hold, by the least that one of them was told."""
    found: dict[str, int] = {}
    for share in (share for placement in placements for share in card_shares(placement)):
        found[share.card] = min(share.capacity_mib, found.get(share.card, share.capacity_mib))
    for card, mib in sorted(found.items()):
        yield RoutedCapacity(card=card, mib=mib)


def _host(host: RemoteHost) -> RoutedHost:
    return RoutedHost(
        name=host.name,
        kind=host.kind,
        address=host.address,
        port=host.port,
        path=host.path,
        is_tls=host.is_tls,
        priority=host.priority,
        toggle=host.toggle,
        credential=host.credential,
        health_path=host.health.path,
        health_interval_s=host.health.interval_s,
        health_timeout_s=host.health.timeout_s,
        health_failures=host.health.failures,
        models=dict(host.models),
    )


def _policies(catalog: Catalog) -> RoutedPolicies:
    return RoutedPolicies(
        clients=tuple(map(_client, catalog.clients)),
        unknown_clients=ClientAccess.REFUSE if catalog.refuses_unknown_clients else ClientAccess.ALLOW,
        data_classes=catalog.data_classes,
    )


def _announcements(said: Announcements) -> RoutedAnnouncements:
    return RoutedAnnouncements(
        kinds=said.kinds, least_interval_s=said.least_interval_s, urgency=said.urgency, texts=dict(said.texts)
    )


def _client(client: Client) -> RoutedClient:
    return RoutedClient(
        name=client.name,
        sources=client.sources,
        credential=client.credential,
        models=client.models,
        purposes=client.purposes,
        data_class=client.data_class,
        priority=client.priority,
        max_queued=client.max_queued,
        requests_per_minute=client.requests_per_minute,
    )


def _profile(profile: Profile) -> RoutedProfile:
    conditions = profile.conditions
    return RoutedProfile(
        name=profile.name,
        cards=tuple(map(_card, profile.cards)),
        leave_above_mib=conditions.leave_above_bytes // MIB,
        take_below_mib=conditions.take_below_bytes // MIB,
        regain_after_s=conditions.regain_after_s,
        release_after_s=conditions.release_after_s,
    )


def _card(card: Card) -> RoutedCard:
    return RoutedCard(
        name=card.name,
        uuid=card.uuid,
        pci=card.pci,
        remote=card.remote,
        vram_mib=card.vram_bytes // MIB,
        is_locked=card.is_locked,
        shared_with=card.shared_with,
    )


def _model(model: Model, upstreams: Iterable[Upstream]) -> RoutedModel:
    return RoutedModel(
        id=model.id,
        name=model.name,
        display_name=model.display_name,
        kind=model.kind,
        aliases=model.aliases,
        purpose_tags=model.purpose_tags,
        languages=model.languages,
        context_tokens=model.context_tokens,
        cost_tier=model.cost_tier,
        version_id=model.version_id,
        size_bytes=model.weights.size_bytes,
        sha256=model.weights.sha256,
        architecture=model.weights.header.architecture,
        upstreams=tuple(upstreams),
        group=model.group,
        data_class=model.data_class,
    )


def _remote_model(model: RemoteModel) -> RoutedModel:
    return RoutedModel(
        id=model.id,
        name=model.name,
        display_name=model.display_name,
        kind=model.kind,
        aliases=model.aliases,
        purpose_tags=model.purpose_tags,
        languages=model.languages,
        context_tokens=model.context_tokens,
        cost_tier=model.cost_tier,
        version_id="",
        size_bytes=0,
        sha256=None,
        architecture="",
        upstreams=(),
        data_class=model.data_class,
    )


def upstream(instance: Instance, placement: Placement | None, texts: InstanceTexts | None, layout: Layout) -> Upstream:
    """Say how an instance that has a unit of its own is reached, and what it does."""
    serving = instance.serving
    predicted = foreseen(placement) if placement else None
    return Upstream(
        instance=str(instance.id),
        profile=instance.profile.name,
        unit=instance.id.unit,
        host=UPSTREAM_HOST,
        port=instance.port,
        preload=serving.preload,
        # A placement may have had to lower it.
        context_tokens=placement.context_tokens if placement else serving.context_tokens,
        parallel=serving.parallel,
        is_pinned=serving.is_pinned,
        idle_timeout_s=serving.idle_timeout_s,
        drain_s=serving.drain_s,
        lease_s=serving.lease_s,
        load_s=round(expected_load_s(model_files(instance.model, layout).size_bytes), 1),
        shares=_shares(placement) if placement else (),
        decode_tokens_per_s=_figure(predicted.decode_tokens_per_s) if predicted else None,
        prefill_tokens_per_s=_figure(predicted.prefill_tokens_per_s) if predicted else None,
        definition=texts.definition if texts else "",
    )


def _shares(placement: Placement) -> tuple[RoutedShare, ...]:
    return tuple(RoutedShare(card=share.card, mib=share.used_mib) for share in card_shares(placement))


def _figure(tokens_per_s: float) -> float:
    """Keep the digits that an estimate has."""
    return float(three_digits(tokens_per_s))


def _persona(persona: Persona) -> RoutedPersona:
    return RoutedPersona(
        id=persona.id,
        model_id=persona.model_id,
        aliases=persona.aliases,
        display_name=persona.display_name,
        system_prompt=persona.system_prompt,
        sampling=dict(persona.sampling),
        stop=persona.stop,
        response_format=json.loads(persona.response_format) if persona.response_format else None,
        tools=json.loads(persona.tools) if persona.tools else (),
    )


def _purpose(purpose: Purpose) -> RoutedPurpose:
    return RoutedPurpose(
        name=purpose.name,
        candidates=purpose.candidates,
        otherwise=purpose.otherwise,
        is_default=purpose.is_default,
        marks=purpose.marks,
        max_latency_s=purpose.max_latency_s,
        max_cost_tier=purpose.max_cost_tier,
        priority=purpose.priority,
        can_continue_elsewhere=purpose.can_continue_elsewhere,
    )
