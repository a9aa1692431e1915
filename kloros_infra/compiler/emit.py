"""Pass 4 of 4: Catalog + Placements + template texts → ArtifactTree."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kloros_infra.compiler.compile_cache import digest_of
from kloros_infra.compiler.emit_cards import emit_udev_rules
from kloros_infra.compiler.emit_env import emit_env, env_path
from kloros_infra.compiler.emit_host import emit_host
from kloros_infra.compiler.emit_polkit import emit_polkit
from kloros_infra.compiler.emit_routing import emit_routing
from kloros_infra.compiler.emit_services import emit_services
from kloros_infra.compiler.emit_units import emit_instance
from kloros_infra.compiler.kept_instances import InstanceTexts
from kloros_infra.compiler.rendering import Rendering, rendering
from kloros_infra.compiler.surroundings import Surroundings, surroundings
from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.unit_keys import env_keys, started_by

DEFINITION_DIGITS = 16


def emit(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], templates: Mapping[str, str], layout: Layout
) -> ArtifactTree:
    """Write every generated file, sorted by path; each instance of the catalog must have its placement."""
    prepared = rendering(templates, layout)
    texts = emit_instances(catalog, placements, surroundings(catalog, placements), prepared)
    return emit_tree(catalog, placements, texts, prepared)


def emit_instances(
    catalog: Catalog,
    placements: Mapping[InstanceId, Placement],
    around: Mapping[InstanceId, Surroundings],
    prepared: Rendering,
    known: Mapping[InstanceId, InstanceTexts] = MappingProxyType({}),
) -> Mapping[InstanceId, InstanceTexts]:
    """Write the files of every instance that has a unit of its own and is not `known`."""
    return {
        one.id: known.get(one.id) or emit_instance_texts(one, placements[one.id], around[one.id], prepared)
        for one in catalog.instances
        if one.shared_with is None
    }


def emit_instance_texts(
    instance: Instance, placement: Placement, around: Surroundings, prepared: Rendering
) -> InstanceTexts:
    """Write the files of one instance."""
    env = emit_env(instance, placement, rendering=prepared)
    env_file = env_path(instance.id, env, prepared.layout)
    unit = emit_instance(instance, placement, around=around, env_file=env_file, rendering=prepared)
    return InstanceTexts(env, unit, definition_of(unit, env))


def definition_of(unit: str, env: str) -> str:
    """Digest what an apply restarts an instance for: not its description, nor how it is held or stopped."""
    started, environment = (repr(sorted(keys.items())) for keys in (started_by(unit), env_keys(env)))
    return digest_of(started, environment)[:DEFINITION_DIGITS]


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
        *emit_host(prepared, has_cards=bool(catalog.cards)),
        *emit_udev_rules(catalog, prepared),
        *emit_polkit(prepared),
        (layout.routing, TextFile(emit_routing(catalog, layout, placements, instances))),
    )
    return dict(sorted(artifacts))
