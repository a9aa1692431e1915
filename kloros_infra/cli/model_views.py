"""What `modelctl list` and `modelctl show` print."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.cli.wiring import Target, choose_profile, observing_manager, profile_named
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.catalog import Catalog, Instance, Model
from kloros_infra.ir.placement import Placement
from kloros_infra.planner.figures import size_text


def list_rows(compiled: Compiled, where: Target, profile: str | None) -> list[tuple[str, ...]]:
    """Give `modelctl list`'s rows (design document, section 5.2)."""
    catalog = compiled.catalog
    active = profile_named(catalog, profile) if profile else choose_profile(compiled, where)
    instances = {one.model.id: one for one in catalog.instances if one.profile.name == active}
    manager = observing_manager(where)
    states = manager.states([one.unit for one in instances.values()]) if manager else {}
    running = {unit for unit, state in states.items() if state.is_active}
    rows: list[tuple[str, ...]] = [("ID", "VERSION", "SIZE", "PROFILE", "STATUS")]
    for model in catalog.models:
        instance = instances.get(model.id)
        status = "unavailable" if instance is None else "running" if instance.unit in running else "stopped"
        rows.append((model.id, model.version_id, size_text(model.weights.size_bytes), active, status))
    return rows


def show_lines(compiled: Compiled, asked: str) -> Iterator[str]:
    """Describe one model by id, name or alias; raise ProblemsError when there is none."""
    model = find_model(compiled.catalog, asked)
    header = model.weights.header
    yield f"{model.display_name} ({model.id})"
    facts = {
        "name": model.name,
        "kind": model.kind.value,
        "aliases": ", ".join(model.aliases) or "-",
        "purposes": ", ".join(model.purpose_tags),
        "languages": ", ".join(model.languages) or "-",
        "context": f"{model.context_tokens} tokens (trained: {header.context_length})",
        "cost": model.cost_tier.value,
        "version": model.version_id,
        "weights": f"{size_text(model.weights.size_bytes)} from {', '.join(model.weights.source)}",
        "pinned": f"{model.weights.revision or '-'}, sha256 {model.weights.sha256 or 'unknown (derived header)'}",
        "architecture": f"{header.architecture}, {header.layer_count} layers",
        **dict(_companions(model)),
    }
    for key, value in facts.items():
        yield f"  {key:<13} {value}"
    for instance in compiled.catalog.instances:
        if instance.model.id == model.id:
            yield from instance_lines(instance, compiled.placements[instance.id])


def _companions(model: Model) -> Iterator[tuple[str, str]]:
    """Say what is loaded beside the model."""
    if model.projector is not None:
        yield "projector", f"{size_text(model.projector.size_bytes)} from {', '.join(model.projector.source)}"
    if model.draft is not None:
        yield "draft", f"{model.draft.model_id}, {size_text(model.draft.weights.size_bytes)}"


def instance_lines(instance: Instance, placement: Placement) -> Iterator[str]:
    """Describe where a profile places a model."""
    serving = instance.serving
    slots = f"{serving.parallel} at a time with {serving.context_tokens} tokens each"
    shared = f"shared with {instance.shared_with.profile}, " if instance.shared_with else ""
    yield f"  {instance.profile.name}: {shared}port {instance.port}, placed by {placement.engine}, {slots}"
    for load in placement.loads:
        room = f" of {size_text(load.capacity_bytes)}" if load.capacity_bytes is not None else ""
        name = f"{load.device} ({load.card})" if load.card else load.device
        yield f"    {name:<20} {load.layers} layers, {size_text(load.total_bytes)}{room}"


def find_model(catalog: Catalog, asked: str) -> Model:
    """Find a model by id, name or alias."""
    names = {name: model for model in catalog.models for name in (*model.aliases, model.name, model.id)}
    if asked in names:
        return names[asked]
    raise ProblemsError(
        [
            Diagnostic(
                code="KI801",
                summary="Unknown model",
                detail=f"No model, name or alias is {asked!r}.",
                hint=suggest(asked, sorted(names)),
            )
        ]
    )
