"""routing.json: the part of the catalog that the router needs, under a schema version of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from kloros_infra.compiler.emit_env import UPSTREAM_HOST
from kloros_infra.ir.catalog import Card, Catalog, Instance, Model, Persona, Profile, Purpose
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.routing import (
    SCHEMA_VERSION,
    RoutedBridge,
    RoutedBus,
    RoutedCard,
    RoutedModel,
    RoutedPersona,
    RoutedProfile,
    RoutedPurpose,
    RoutingTable,
    Upstream,
)

Placements = Mapping[InstanceId, Placement]

_NOWHERE: Placements = MappingProxyType({})


def emit_routing(catalog: Catalog, layout: Layout, placements: Placements = _NOWHERE) -> str:
    """Write the routing table as JSON: keys sorted, lists in the order of models.yaml."""
    # What is not set is left out: most cards are not of another host.
    table = routing_table(catalog, layout, placements).model_dump(mode="json", exclude_unset=True)
    return json.dumps(table, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def routing_table(catalog: Catalog, layout: Layout, placements: Placements = _NOWHERE) -> RoutingTable:
    """Say what the router must know."""
    upstreams: dict[str, list[Upstream]] = {}
    for instance in catalog.instances:
        upstreams.setdefault(instance.model.id, []).append(_upstream(instance, placements.get(instance.id)))
    return RoutingTable(
        version=SCHEMA_VERSION,
        profiles=tuple(_profile(profile) for profile in catalog.profiles),
        profile_file=layout.absolute(layout.profile_file),
        models=tuple(_model(model, upstreams.get(model.id, ())) for model in catalog.models),
        personas=tuple(_persona(persona) for persona in catalog.personas),
        purposes=tuple(_purpose(purpose) for purpose in catalog.purposes),
        bus=RoutedBus(xsub=catalog.bus.xsub, xpub=catalog.bus.xpub),
        bridge=RoutedBridge(host=catalog.bridge.host, ports=catalog.bridge.ports),
    )


def _profile(profile: Profile) -> RoutedProfile:
    return RoutedProfile(name=profile.name, cards=tuple(map(_card, profile.cards)))


def _card(card: Card) -> RoutedCard:
    if card.remote is None:
        return RoutedCard(name=card.name, uuid=card.uuid, pci=card.pci)
    return RoutedCard(name=card.name, uuid=card.uuid, pci=card.pci, remote=card.remote)


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
    )


def _upstream(instance: Instance, placement: Placement | None) -> Upstream:
    return Upstream(
        instance=str(instance.id),
        profile=instance.profile.name,
        unit=instance.id.unit,
        host=UPSTREAM_HOST,
        port=instance.port,
        preload=instance.serving.preload,
        # A placement may have had to lower it.
        context_tokens=placement.context_tokens if placement else instance.serving.context_tokens,
        parallel=instance.serving.parallel,
    )


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
    )
