"""What the commands about placement look at: a project's instances, and where they are placed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.templates import read_templates
from kloros_infra.cli.model_views import find_model
from kloros_infra.cli.project import Project, read_project
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rendering import rendering
from kloros_infra.compiler.shared_instances import share_instances
from kloros_infra.compiler.stations import check_project
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.catalog import Catalog, Instance, Model, Profile
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.account import DeviceAccount, accounts, neighbours
from kloros_infra.placement.alternatives import Alternative, alternatives, request_beside
from kloros_infra.placement.place import Machine


@dataclass(frozen=True, slots=True)
class Placed:
    """An instance with its placement, and those of the models that its profile starts beside it."""

    instance: Instance
    placement: Placement
    others: tuple[Placement, ...]
    accounts: tuple[DeviceAccount, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A project as far as it can be placed; `problems` are all that were found."""

    project: Project
    parsed: Parsed
    catalog: Catalog
    placed: tuple[Placed, ...]
    machine: Machine
    problems: Problems


def read_view(file: Path) -> View:
    """Read a project and place what can be placed; raise ProblemsError where nothing can."""
    project = read_project(file)
    found = check_project(compiler_sources(project))
    if found.parsed is None or found.catalog is None:
        raise ProblemsError(found.problems)
    placements = found.placements
    catalog = share_instances(found.catalog, placements, rendering(read_templates(), Layout()))
    machine = Machine(catalog.memory, overrider_records=project.overrider_records)
    placed = []
    for instance in catalog.instances:
        if instance.id in placements:
            placement, others = placements[instance.id], neighbours(instance.id, catalog.instances, placements)
            told = accounts(instance, placement, memory=catalog.memory, others=others)
            placed.append(Placed(instance, placement, others, told))
    return View(project, found.parsed, catalog, tuple(placed), machine, found.problems)


def placed_of(view: View, model: str | None, profile: str | None) -> tuple[Placed, ...]:
    """Choose by model and profile; raise ProblemsError for names that are none, and where nothing is placed."""
    wanted = None if model is None else model_called(view, model).id
    if profile is not None:
        profile_called(view.catalog, profile)
    found = tuple(
        one
        for one in view.placed
        if wanted in (None, one.instance.model.id) and profile in (None, one.instance.profile.name)
    )
    if not found:
        raise ProblemsError([*errors_about(view, wanted, profile), _nothing_placed(model, profile)])
    return found


def model_called(view: View, asked: str) -> Model:
    """Find a model by id, name or alias; raise ProblemsError where there is none, or with what is wrong with it."""
    refused = next((one for one in left_out(view) if asked in (one.id, one.name, *one.aliases)), None)
    if refused is not None:
        raise ProblemsError(errors_about(view, refused.id) or errors_about(view))
    return find_model(view.catalog, asked)


def left_out(view: View) -> tuple[ModelSpec, ...]:
    """List the models of models.yaml that nothing can be said of, as something is wrong with them."""
    known = {model.id for model in view.catalog.models}
    return tuple(one for one in view.parsed.config.models if one.id not in known)


def profile_called(catalog: Catalog, name: str) -> Profile:
    """Find a profile; raise ProblemsError when there is none."""
    profiles = {profile.name: profile for profile in catalog.profiles}
    if name in profiles:
        return profiles[name]
    problem = Diagnostic(
        code="KI440",
        summary="Unknown profile",
        detail=f"No profile is called {name!r}.",
        hint=suggest(name, profiles),
    )
    raise ProblemsError([problem])


def by_engines(view: View, placed: Placed) -> tuple[Alternative, ...]:
    """Place an instance by every engine: beside the models of its profile where it is so placed, else alone."""
    is_beside = all(account.free_bytes is None or account.free_bytes >= 0 for account in placed.accounts)
    return alternatives(request_beside(placed.instance, view.machine, placed.others if is_beside else ()))


def errors_about(view: View, model_id: str | None = None, profile: str | None = None) -> Problems:
    """List the errors that keep a model, or all of them, from being placed; those of other profiles are left out."""
    return tuple(
        problem
        for problem in view.problems
        if problem.is_error
        and (model_id is None or _speaks_of(model_id, problem))
        and (profile is None or not _speaks_of("profiles", problem) or _speaks_of(profile, problem))
    )


def _speaks_of(name: str, problem: Diagnostic) -> bool:
    return f".{name}." in f".{problem.address}."


def _nothing_placed(model: str | None, profile: str | None) -> Diagnostic:
    where = "anywhere" if profile is None else f"under the profile {profile}"
    return Diagnostic(
        code="KI441",
        summary="Nothing placed",
        detail=f"{'No model' if model is None else model} is{'' if model is None else ' not'} placed {where}.",
        hint="`kloros-infra validate` tells what is wrong; a profile that is null for a model leaves it out.",
    )
