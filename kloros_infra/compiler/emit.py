"""Pass 4 of 4: Catalog + Placements + template texts → ArtifactTree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.compiler.emit_env import emit_env, env_path
from kloros_infra.compiler.emit_host import emit_host
from kloros_infra.compiler.emit_routing import emit_routing
from kloros_infra.compiler.emit_units import emit_instance, emit_services
from kloros_infra.compiler.rendering import Rendering, rendering
from kloros_infra.ir.artifact import Artifact, ArtifactTree, TextFile
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement


def emit(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], templates: Mapping[str, str], layout: Layout
) -> ArtifactTree:
    """Write every generated file, sorted by path; each instance of the catalog must have its placement."""
    prepared = rendering(templates, layout)
    artifacts = (
        *_instances(catalog, placements, prepared),
        *((layout.unit_path(unit), TextFile(text)) for unit, text in emit_services(catalog, prepared)),
        *emit_host(prepared),
        (layout.routing, TextFile(emit_routing(catalog, layout, placements))),
    )
    return dict(sorted(artifacts))


def _instances(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], prepared: Rendering
) -> Iterator[tuple[str, Artifact]]:
    for instance in catalog.instances:
        placement = placements[instance.id]
        env_text = emit_env(instance, placement, rendering=prepared)
        env_file = env_path(instance.id, env_text, prepared.layout)
        unit = emit_instance(instance, placement, catalog=catalog, env_file=env_file, rendering=prepared)
        yield env_file, TextFile(env_text)
        yield prepared.layout.unit_path(instance.id.unit), TextFile(unit)
