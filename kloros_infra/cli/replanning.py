"""Make the plan for cards that are not as the generation was compiled for, and apply it where that is wanted.

A change is planned once: what came of it is written down, and only another change is planned anew.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.adapters.driver_files import seen_devices
from kloros_infra.adapters.synced_files import remove
from kloros_infra.adapters.synced_files import replace as write_file
from kloros_infra.cli.changing import Manner
from kloros_infra.cli.gpu_wiring import DriverOnDemand, GpuPlaces, InstalledTable, raise_flag
from kloros_infra.cli.hardware_watch import compiled_cards, read_record, words_of
from kloros_infra.cli.plan_output import save
from kloros_infra.cli.planning import Planned, make_planned
from kloros_infra.cli.saved_plans import carry_out_saved
from kloros_infra.cli.wiring import Target, generations_of, provenance_of
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, ObstacleError
from kloros_infra.executor.generations import current_manifest
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.card_facts import DeclaredCard
from kloros_infra.ir.generation import Provenance
from kloros_infra.ir.hardware_record import HardwareOutcome, HardwareRecord
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.planner.request import PlanRequest
from kloros_infra.topology.hardware import HardwareChange, hardware_changes

APPLY_WAIT_S = 600.0
"""How long another apply is waited for."""
BY_HAND = "models.yaml must say otherwise: `kloros-infra plan --detected` there tells what"


def replan(places: GpuPlaces) -> HardwareRecord | None:
    """Plan for what has changed; give what came of it, None where nothing has."""
    where = places.where
    changes, is_certain = changes_now(places)
    words, known = words_of(changes), read_record(where)
    if not is_certain or _is_done(known, words):
        return known
    if not words:
        _take_back(where)
        return None
    begun = HardwareRecord(changes=words, made_at=_now(), outcome=HardwareOutcome.BEGUN)
    _take_back(where)
    _write(where, begun)
    try:
        record = _planned(places, begun, is_mendable=any(change.is_mendable for change in changes))
    except KlorosError as error:
        record = _failed(begun, error)
    _write(where, record)
    raise_flag(where)
    return record


def _is_done(known: HardwareRecord | None, words: tuple[str, ...]) -> bool:
    """Say whether the same was planned before; what was interrupted then is tried again."""
    return known is not None and known.changes == words and known.outcome is not HardwareOutcome.BEGUN


def changes_now(places: GpuPlaces) -> tuple[tuple[HardwareChange, ...], bool]:
    """Compare the cards that are there with those of the current generation; say as well whether the driver answers."""
    table = InstalledTable(places.where.root / places.where.layout.routing)()
    if not isinstance(table, RoutingTable):
        return (), False
    compiled = compiled_cards(table)
    reading = DriverOnDemand(places).read([DeclaredCard(card.name, card.uuid, card.pci) for card in compiled])
    changes = hardware_changes(compiled, seen_devices(places.sysfs, places.procfs), reading.cards)
    return changes, not (reading.is_stale or reading.trouble)


def _planned(places: GpuPlaces, begun: HardwareRecord, *, is_mendable: bool) -> HardwareRecord:
    """Plan, and apply the plan where models.yaml says so and is as it was applied."""
    if not is_mendable:
        return _ended(begun, HardwareOutcome.NOTHING, BY_HAND)
    where, provenance = places.where, _provenance(places.where)
    file = Path(provenance.models_file)
    if not provenance.models_file or not file.is_file():
        raise ObstacleError([_no_models_file(provenance.models_file)])
    planned = make_planned(PlanRequest(str(file), str(where.root), where.manager.value, is_detected=True))
    if planned.made.refusals:
        raise ObstacleError(planned.made.refusals)
    if planned.made.is_empty:
        return _ended(begun, HardwareOutcome.NOTHING, "nothing of what is installed differs by it")
    plan = where.root / where.layout.hardware_plan
    save(planned, plan)
    waiting = _ended(begun, HardwareOutcome.PLANNED).model_copy(update={"plan": str(plan)})
    if planned.compiled is None or not planned.compiled.catalog.applies_hardware_changes:
        return waiting
    if _has_moved(planned, provenance):
        return waiting.model_copy(update={"detail": "models.yaml or its lock has changed since it was applied"})
    _write(where, waiting)
    carry_out_saved(plan, Manner(yes=True, wait_s=APPLY_WAIT_S))
    return _ended(begun, HardwareOutcome.APPLIED)


def _provenance(where: Target) -> Provenance:
    manifest = current_manifest(generations_of(where))
    return Provenance() if manifest is None else manifest.provenance


def _has_moved(planned: Planned, applied: Provenance) -> bool:
    """Say whether what nobody has applied yet would be applied with it."""
    if planned.project is None:
        raise AssertionError("a plan with a catalog has a project")
    now = provenance_of(planned.project)
    return (now.models_sha256, now.lock_sha256) != (applied.models_sha256, applied.lock_sha256)


def _ended(begun: HardwareRecord, outcome: HardwareOutcome, detail: str = "") -> HardwareRecord:
    return begun.model_copy(update={"outcome": outcome, "detail": detail})


def _failed(begun: HardwareRecord, error: KlorosError) -> HardwareRecord:
    told = "; ".join(f"{one.code} {one.summary}: {one.detail}" for one in error.problems)
    return _ended(begun, HardwareOutcome.FAILED, told)


def _write(where: Target, record: HardwareRecord) -> None:
    write_file(where.root / where.layout.hardware_record, TextFile(record.model_dump_json(indent=1) + "\n"))


def _take_back(where: Target) -> None:
    for name in (where.layout.hardware_record, where.layout.hardware_plan):
        remove(where.root / name)


def _no_models_file(file: str) -> Diagnostic:
    return Diagnostic(
        code="KI927",
        summary="No models.yaml to plan from",
        detail=f"{file} is not there any more." if file else "Nobody wrote down where the applied models.yaml is.",
        hint="Run `kloros-infra plan --detected --out FILE` beside it, then apply that plan.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
