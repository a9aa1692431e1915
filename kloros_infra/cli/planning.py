"""Make a plan from what was asked: the same way for plan, for a saved plan, and for apply that checks one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kloros_infra.adapters.apply_lock import is_locked
from kloros_infra.adapters.card_presence import CardPresence
from kloros_infra.cli.project import Project, read_project
from kloros_infra.cli.wiring import (
    Target,
    choose_profile,
    compile_project,
    desired_for,
    noted_profile,
    observe_target,
    provenance_of,
    target,
)
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, has_errors
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.observed import Observed
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.fingerprint import Fingerprint, fingerprint
from kloros_infra.planner.impact import metrics_urls, with_requests
from kloros_infra.planner.obstacles import apply_at_work
from kloros_infra.planner.request import PlanRequest
from kloros_infra.planner.selection import chosen_units, narrowed, part_of_another_profile, unit_names, unknown_name
from kloros_infra.router.profile import select_profile


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with both sides that it compares; `project` and `compiled` are None for a plan to destroy."""

    request: PlanRequest
    made: Plan
    problems: Problems
    desired: Desired
    observed: Observed
    project: Project | None = None
    compiled: Compiled | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        return fingerprint(self.desired, self.observed)

    @property
    def warnings(self) -> Problems:
        """Give what compile had to say about the files."""
        return self.compiled.warnings if self.compiled else ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is wanted of a target that has not been looked at yet."""

    request: PlanRequest
    where: Target
    wanted: Desired
    project: Project | None = None
    compiled: Compiled | None = None


def make_planned(request: PlanRequest, *, is_cached: bool = True) -> Planned:
    """Compile, look at the target and compare; raise ProblemsError or ObstacleError with all that is in the way."""
    return look(prepare(request, is_cached=is_cached))


def prepare(request: PlanRequest, *, is_cached: bool = True) -> Prepared:
    """Compile what is asked for; raise ProblemsError where it is wrong."""
    where = target(Path(request.root), request.manager)
    project, compiled = (None, None) if request.is_destroy else _compile(request, where, is_cached=is_cached)
    return Prepared(request, where, _wanted(request, project, compiled, where), project, compiled)


def look(prepared: Prepared) -> Planned:
    """Look at the target and compare; raise ProblemsError or ObstacleError with all that is in the way."""
    request, compiled = prepared.request, prepared.compiled
    observed = observe_target(prepared.wanted, prepared.where)
    desired = _chosen(request, prepared.wanted, observed, compiled.catalog if compiled else None)
    made, problems = compare(desired, observed)
    problems = (*problems, *_not_held(request.profile, compiled, prepared.where))
    return Planned(request, made, problems, desired, observed, prepared.project, compiled)


def with_apply_at_work(planned: Planned) -> Planned:
    """Add a warning while an apply changes what was looked at."""
    where = target(Path(planned.request.root), planned.request.manager)
    return replace(planned, problems=(*planned.problems, apply_at_work())) if is_locked(where.root) else planned


def compare(desired: Desired, observed: Observed) -> tuple[Plan, Problems]:
    """Plan, and ask the servers that are interrupted; raise ObstacleError when a foreign file is in the way."""
    made, problems = plan(desired, observed)
    if has_errors(problems):
        raise ObstacleError(problems)
    return with_requests(made, _requests(metrics_urls(made, desired, observed))), problems


def _requests(urls: Mapping[str, str]) -> Mapping[str, int]:
    """Ask the servers that are interrupted what they are answering, if there are any."""
    if not urls:
        return {}
    from kloros_infra.adapters.server_metrics import requests_in_flight  # noqa: PLC0415 - start-up time

    return requests_in_flight(urls)


def _not_held(asked: str | None, compiled: Compiled | None, where: Target) -> Problems:
    """Tell that a profile which was asked for is not the one that the cards allow, and so does not stay."""
    if asked is None or compiled is None or not compiled.catalog.cards:
        return ()
    allowed = choose_profile(compiled, where)
    return () if asked == allowed else (_does_not_stay(asked, allowed),)


def _does_not_stay(asked: str, allowed: str) -> Diagnostic:
    return Diagnostic(
        code="KI910",
        summary="The profile will not stay",
        detail=f"The cards allow '{allowed}' now: '{asked}' holds until they are looked at next, a minute at most.",
        hint=f"Keep it with `kloros-infra gpu pin {asked}`, which counts while its cards may be used.",
        severity=Severity.WARNING,
    )


def _compile(request: PlanRequest, where: Target, *, is_cached: bool) -> tuple[Project, Compiled]:
    project = read_project(Path(request.file))
    is_detected = request.is_detected
    return project, compile_project(project, where.layout, is_cached=is_cached, is_detected=is_detected)


def _wanted(request: PlanRequest, project: Project | None, compiled: Compiled | None, where: Target) -> Desired:
    if project is None or compiled is None:
        return nothing_desired(where.layout, with_weights=request.is_with_weights)
    if request.host is not None:
        from kloros_infra.cli.host_part import desired_for_part  # noqa: PLC0415 - start-up time

        return desired_for_part(compiled, where, request.host, provenance=provenance_of(project))
    supposed = dict(request.supposed)
    profile = request.profile or (supposed_profile(compiled.catalog, supposed) if supposed else None)
    if request.only:
        profile = _profile_of_a_part(profile, compiled.catalog, where)
    desired = desired_for(compiled, where, profile, provenance=provenance_of(project))
    return replace(desired, resets_pins=request.resets_pins)


def _profile_of_a_part(asked: str | None, catalog: Catalog, where: Target) -> str | None:
    """Take the profile that is active on the target: a switch starts and stops more than a part."""
    active = noted_profile(where)
    if active is None:
        return asked
    if asked not in (None, active) or active not in [profile.name for profile in catalog.profiles]:
        raise ProblemsError([part_of_another_profile(active)])
    return active


def supposed_profile(catalog: Catalog, supposed: dict[str, bool]) -> str:
    """Choose the profile as if some cards were present or absent; raise ProblemsError for cards that nobody knows."""
    cards = {card.name: card for card in catalog.cards}
    unknown = [unknown_name(name, cards, kind="GPU in a profile") for name in supposed if name not in cards]
    if unknown:
        raise ProblemsError(unknown)
    present = set(CardPresence().present(catalog.cards))
    for name, is_present in supposed.items():
        present = present | {name} if is_present else present - {name}
    return select_profile(catalog.profiles, frozenset(present))


def _chosen(request: PlanRequest, wanted: Desired, observed: Observed, catalog: Catalog | None) -> Desired:
    """Limit a plan to what was chosen, and mark what is restarted in any case."""
    if not request.only and not request.replaced:
        return wanted
    names = unit_names(catalog, wanted, observed)
    chosen, unknown = chosen_units(request.only, names)
    restarted, also_unknown = chosen_units(request.replaced, names)
    if unknown or also_unknown:
        raise ProblemsError((*unknown, *also_unknown))
    marked = replace(wanted, replaced=restarted)
    return narrowed(marked, observed, chosen | restarted) if request.only else marked


def read_suppositions(words: Iterable[str]) -> tuple[tuple[str, bool], ...]:
    """Read `gpu=NAME:absent` and `gpu=NAME:present`; raise ValueError with the word that is neither."""
    found: list[tuple[str, bool]] = []
    for word in words:
        subject, _, rest = word.partition("=")
        name, _, state = rest.rpartition(":")
        if subject != "gpu" or not name or state not in ("absent", "present"):
            raise ValueError(word)
        found.append((name, state == "present"))
    return tuple(found)
