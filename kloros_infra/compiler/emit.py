"""Pass 4 of 4: Catalog + Placements + template texts → ArtifactTree."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kloros_infra.compiler.emit_env import emit_env, env_path
from kloros_infra.compiler.emit_host import emit_host
from kloros_infra.compiler.emit_routing import emit_routing
from kloros_infra.compiler.emit_units import emit_instance, emit_services
from kloros_infra.compiler.kept_instances import InstanceTexts
from kloros_infra.compiler.rendering import Rendering, rendering
from kloros_infra.compiler.surroundings import Surroundings, surroundings
from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement


def emit(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], templates: Mapping[str, str], layout: Layout
) -> ArtifactTree:
    """Write every generated file, sorted by path; each instance of the catalog must have its placement."""
    prepared = rendering(templates, layout)
    texts = emit_instances(catalog, placements, surroundings(catalog), prepared)
    return emit_tree(catalog, placements, texts, prepared)


def emit_instances(
    catalog: Catalog,
    placements: Mapping[InstanceId, Placement],
    around: Mapping[InstanceId, Surroundings],
    prepared: Rendering,
    known: Mapping[InstanceId, InstanceTexts] = MappingProxyType({}),
) -> Mapping[InstanceId, InstanceTexts]:
    """Write the files of every instance that is not `known`."""
    return {
        one.id: known.get(one.id) or _instance(one, placements[one.id], around[one.id], prepared)
        for one in catalog.instances
    }


def _instance(instance: Instance, placement: Placement, around: Surroundings, prepared: Rendering) -> InstanceTexts:
    env = emit_env(instance, placement, rendering=prepared)
    env_file = env_path(instance.id, env, prepared.layout)
    return InstanceTexts(env, emit_instance(instance, placement, around=around, env_file=env_file, rendering=prepared))


def emit_tree(
    catalog: Catalog,
    placements: Mapping[InstanceId, Placement],
    instances: Mapping[InstanceId, InstanceTexts],
    prepared: Rendering,
) -> ArtifactTree:
    """Write all other files, and put all together."""
    layout = prepared.layout
    artifacts = (
        *((env_path(name, texts.env, layout), TextFile(texts.env)) for name, texts in instances.items()),
        *((layout.unit_path(name.unit), TextFile(texts.unit)) for name, texts in instances.items()),
        *((layout.unit_path(unit), TextFile(text)) for unit, text in emit_services(catalog, prepared)),
        *emit_host(prepared),
        (layout.routing, TextFile(emit_routing(catalog, layout, placements))),
    )
    return dict(sorted(artifacts))
