"""Everything that is wrong with a project, in one run.

A station needs what the ones before it give, and no more than that: the lock is read whatever models.yaml is like, the
checks that need the file alone do without a lock, and models are placed although others cannot be. Only wrong keys and
values end the run, because what follows would be about something else than what the writer meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kloros_infra.compiler.checks import CHECKS, LOCK_CHECKS
from kloros_infra.compiler.locked import lockables
from kloros_infra.compiler.parse import Parsed, check_values, read_all
from kloros_infra.compiler.parse_lock import Read, parse_entries
from kloros_infra.compiler.placing import located, place_all
from kloros_infra.compiler.resolve import build_catalog
from kloros_infra.compiler.sources import Sources
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.lock import Lock
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement

NOT_LOCKED = "KI301"
# What every model is placed by: where one of these is wrong, nothing can be said about any.
COMMON_SECTIONS = frozenset({"", "hosts", "gpus", "profiles", "defaults"})


class Station(StrEnum):
    """What is done one after the other."""

    COMPOSE = "compose"
    VALUES = "values"
    LOCK = "lock"
    CHECKS = "checks"
    RESOLVE = "resolve"
    PLACE = "place"


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a project; where there are errors, the catalog holds what is not touched by them."""

    problems: Problems
    parsed: Parsed | None = None
    catalog: Catalog | None = None
    placements: Mapping[InstanceId, Placement] = field(default_factory=dict)


def pass_by(_: Station) -> None:
    """Take no notice of a station that begins."""


def check_project(sources: Sources, begin: Callable[[Station], None] = pass_by) -> Checked:
    """Check a project in all ways that need no machine; `begin` is told of each station when it begins."""
    begin(Station.COMPOSE)
    composed, problems = read_all(sources.text, file=sources.file, parts=sources.parts)
    begin(Station.VALUES)
    parsed, problems = (None, problems) if composed is None else check_values(composed, problems)
    begin(Station.LOCK)
    lock, lock_problems = _read_lock(sources)
    if parsed is None:
        return Checked(in_order((*problems, *lock_problems)))
    begin(Station.CHECKS)
    found = in_order((*problems, *lock_problems, *_check_all(parsed, lock)))
    begin(Station.RESOLVE)
    config = _untouched(parsed, lock, found)
    if config is None or lock is None:
        return Checked(found, parsed)
    catalog = build_catalog(config, lock.lock)
    begin(Station.PLACE)
    placements, more = place_all(catalog, overrider_records=sources.overrider_records)
    return Checked(in_order((*found, *located(more, parsed, catalog))), parsed, catalog, placements)


def _read_lock(sources: Sources) -> tuple[Read | None, Problems]:
    """Read the entries that hold; before the first `lock` there are none."""
    if sources.lock_text is None:
        return Read(Lock({}), {}, ()), ()
    read, problems = parse_entries(sources.lock_text, sources.headers, file=sources.lock_file)
    return read, (*problems, *(read.problems if read else ()))


def _check_all(parsed: Parsed, lock: Read | None) -> Iterator[Diagnostic]:
    for check in CHECKS:
        yield from check(parsed)
    if lock is None:
        return
    # An entry that does not hold is there: it has been reported, and saying that it is missing would mislead.
    keys = lock.unsound
    unsound = {parsed.source.path(one.address) for one in lockables(parsed.config) if one.key in keys}
    for check_with_lock in LOCK_CHECKS:
        for problem in check_with_lock(parsed, lock.lock):
            if not (problem.code == NOT_LOCKED and problem.address in unsound):
                yield problem


def _untouched(parsed: Parsed, lock: Read | None, problems: Problems) -> Config | None:
    """Take out of a config what errors are about and what placing does not need; None where nothing can be placed."""
    if lock is None:
        return None
    if not has_errors(problems):
        return parsed.config
    # Which models a wrong entry of the lock touches, its key says; such problems have addresses in the lock.
    wrong = tuple(problem.address for problem in problems if problem.is_error)
    if any(address.partition(".")[0] in COMMON_SECTIONS for address in wrong):
        return None
    models = _sound_models(parsed, lock, wrong)
    return parsed.config.model_copy(update={"models": models, "personas": (), "purposes": {}})


def _sound_models(parsed: Parsed, lock: Read, wrong: Iterable[str]) -> tuple[ModelSpec, ...]:
    config = parsed.config
    unlocked = {
        one.model.id
        for one in lockables(config)
        if one.version.version_id == one.model.version_in_use and one.key not in lock.lock.weights
    }
    touched = {address for address in wrong if address.startswith("models.")}
    sound = {
        model.id: model
        for index, model in enumerate(config.models)
        if model.id not in unlocked and not _holds_any(parsed.source.path(("models", index)), touched)
    }
    return tuple(model for model in sound.values() if model.draft is None or model.draft.model in sound)


def _holds_any(path: str, addresses: Iterable[str]) -> bool:
    return any(address == path or address.startswith(f"{path}.") for address in addresses)
