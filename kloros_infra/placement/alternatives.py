"""One instance placed by every engine that can place it: the solver, models.yaml, and what others would do.

Each is rated by our own memory and speed models, so that their figures can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.overrider_record import OverriderRecord
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.account import bytes_by_card
from kloros_infra.placement.engines import cpu, manual, overrider, solver
from kloros_infra.placement.engines.interface import FIT, OVERRIDER, SOLVER, Request, decided
from kloros_infra.placement.llama_choice import divided, fitted
from kloros_infra.placement.place import Machine
from kloros_infra.placement.speed import Assignment

DEFAULT = "default"
"""Layers by free memory: what llama-server does where it is told nothing, and not to fit."""
MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Alternative:
    """What one engine makes of an instance; None where it finds no placement, for the reasons in `problems`."""

    engine: str
    placement: Placement | None
    problems: Problems = ()

    @property
    def fits(self) -> bool:
        return self.placement is not None and self.placement.fits and not has_errors(self.problems)


def request_beside(instance: Instance, machine: Machine, others: Iterable[Placement]) -> Request:
    """Ask for an instance on what other placements leave of its cards."""
    taken = bytes_by_card(others)
    devices = tuple(
        device if device.card is None else device.without(taken.get(device.card, 0))
        for device in machine.devices(instance)
    )
    return Request(instance, devices, machine.overrider_records)


def alternatives(request: Request) -> tuple[Alternative, ...]:
    """Place an instance by each engine; by models.yaml and by the external tool only where these say anything."""
    return tuple(_alternatives(request))


def _alternatives(request: Request) -> Iterator[Alternative]:
    if not request.cards:
        yield Alternative(cpu.ENGINE.name, *cpu.ENGINE.place(request))
        return
    yield Alternative(SOLVER, *solver.ENGINE.place(request))
    if request.instance.layers is not None or request.instance.gpu_percentages is not None:
        yield Alternative(MANUAL, *manual.ENGINE.place(request))
    if isinstance(overrider.recorded_answer(request.instance, request.overrider_records), OverriderRecord):
        yield Alternative(OVERRIDER, *overrider.ENGINE.place(request))
    free = _free_bytes(request)
    yield _by_llama_server(FIT, request, fitted(request.task, free))
    yield _by_llama_server(DEFAULT, request, divided(request.task, free))


def _by_llama_server(engine: str, request: Request, assignment: Assignment | None) -> Alternative:
    return Alternative(engine, None if assignment is None else decided(engine, request.task, assignment))


def _free_bytes(request: Request) -> list[int]:
    """Say what llama-server finds free on each card: the reserve is what we leave, and nobody takes it then."""
    reserved = {card.name: card.reserve_bytes for card in request.instance.profile.cards}
    return [(device.usable_bytes or 0) + reserved[device.card or ""] for device in request.cards]
