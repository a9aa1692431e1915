"""Instances as the router has them: start one, stop one, say until when each runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from kloros_infra.adapters.control_client import ControlClient
from kloros_infra.adapters.service_problems import with_last_lines
from kloros_infra.cli.history import desired_at
from kloros_infra.cli.table import table
from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, StepFailedError
from kloros_infra.ir.control import FAILED, LEAVING, RUNNING, STOPPED, Runtime
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.placement import Placement
from kloros_infra.planner.figures import seconds_text, size_text

POLL_S = 0.1
QUICK_S = 1.0
BEGINNING = frozenset({"starting", "loading"})
DOWN = frozenset({STOPPED, FAILED, "unknown"})
HEADER = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
NOTHING = "-"
FOREVER = "Forever"
JSON_VERSION = 1


def control_of(where: Target, *, timeout_s: float = 10.0) -> ControlClient:
    """Give the router of a root."""
    return ControlClient(where.root / Layout().control_socket, timeout_s=timeout_s)


def start(where: Target, name: str, *, wait_s: float | None) -> None:
    """Have the router start an instance, and wait until it serves; raise StepFailedError (KI845) when it cannot."""
    began = time.monotonic()
    router = control_of(where)
    asked = router.start(name)
    if wait_s is None:
        click.echo(f"{asked.profile} is {asked.status}.")
        return
    found = _await(router, asked, lambda one: one.status == RUNNING or _has_failed(one), wait_s)
    if found.status != RUNNING:
        problem = not_started(found, time.monotonic() - began)
        raise StepFailedError((with_last_lines(problem, found.last_lines) if found.last_lines else problem,))
    took = f", ready after {time.monotonic() - began:.1f} s" if asked.status != RUNNING else ""
    click.echo(f"{found.profile} runs on port {found.port}{took}.")


def stop(where: Target, name: str, *, wait_s: float | None) -> None:
    """Have the router stop an instance, and wait until it is down; raise StepFailedError (KI849) when it stays."""
    router = control_of(where)
    asked = router.stop(name)
    if wait_s is None:
        click.echo(f"{asked.profile} is {asked.status}.")
        return
    found = _await(router, asked, lambda one: one.status in DOWN or _is_another(one, asked), wait_s)
    if _is_another(found, asked):
        waiting = found.active_requests + found.queued_requests
        click.echo(f"{found.profile} was stopped, and is started again for {waiting} waiting.")
        return
    if found.status not in DOWN:
        raise StepFailedError((not_stopped(found, wait_s),))
    click.echo(f"{found.profile} is stopped. A request for it starts it again.")


def until_text(runtime: Runtime) -> str:
    """Say until when an instance runs, as `ollama ps` does."""
    if runtime.status in LEAVING:
        return "Stopping..."
    if runtime.status != RUNNING:
        return f"{runtime.status.capitalize()}..."
    if runtime.stops_in_seconds is None:
        return FOREVER
    return f"{seconds_text(runtime.stops_in_seconds)} from now"


def runtimes_by_unit(where: Target) -> Mapping[str, Runtime]:
    """Ask the router how its instances are; nothing where it does not run, or this user may not ask."""
    try:
        found = control_of(where, timeout_s=QUICK_S).health()
    except KlorosError:
        return {}
    return {runtime.unit: runtime for runtime in found.runtimes}


class Running(NamedTuple):
    """An instance that holds memory; what the current generation does not know is None."""

    runtime: Runtime
    sha256: str | None
    size: Size | None


class Size(NamedTuple):
    """What a placement foresees."""

    total_bytes: int
    on_cards_bytes: int
    context_tokens: int


def running_instances(where: Target) -> Iterator[Running]:
    """Ask the router what holds memory, and say what the current generation knows of it."""
    running = [one for one in control_of(where).health().runtimes if one.status not in DOWN]
    desired = desired_at(where, generations_of(where).history().current)
    gates = {unit.unit: unit.gate for unit in desired.units if unit.gate is not None}
    weights = {unit.unit: unit.weights for unit in desired.units}
    checksums = {step.destination: step.sha256 for step in desired.weights}
    for one in running:
        gate = gates.get(one.unit)
        sha256 = next((checksums[path] for path in weights.get(one.unit, ()) if path in checksums), None)
        yield Running(one, sha256, None if gate is None else _size(gate.placement))


def ps_lines(where: Target) -> Iterator[str]:
    """Write what runs like `ollama ps`."""
    yield from table([HEADER, *map(_row, running_instances(where))])


def ps_json(where: Target) -> str:
    """Write the same as one versioned object, with all that the router says of each."""
    return json.dumps({"version": JSON_VERSION, "instances": list(map(_fields, running_instances(where)))})


def _row(one: Running) -> Sequence[str]:
    id = NOTHING if one.sha256 is None else one.sha256[:12]
    sizes: tuple[str, ...] = (NOTHING, NOTHING, NOTHING)
    if one.size is not None:
        total = one.size.total_bytes
        sizes = (size_text(total), processor(one.size.on_cards_bytes, total), str(one.size.context_tokens))
    return (one.runtime.profile, id, *sizes, until_text(one.runtime))


def _fields(one: Running) -> dict[str, Any]:
    size = dict.fromkeys(Size._fields) if one.size is None else one.size._asdict()
    return {**one.runtime.model_dump(mode="json"), "sha256": one.sha256, **size}


def _size(placement: Placement) -> Size:
    on_cards = sum(load.total_bytes for load in placement.loads if load.card is not None)
    return Size(sum(load.total_bytes for load in placement.loads), on_cards, placement.context_tokens)


def processor(on_cards: int, total: int) -> str:
    """Say where it is, as `ollama ps` does."""
    cards_percent = round(100 * on_cards / total) if total else 0
    if cards_percent in (0, 100):
        return "100% GPU" if cards_percent else "100% CPU"
    return f"{100 - cards_percent}%/{cards_percent}% CPU/GPU"


def _await(router: ControlClient, asked: Runtime, is_over: Callable[[Runtime], bool], wait_s: float) -> Runtime:
    """Ask until it is as wanted, or the time is over; give what was seen last."""
    deadline = time.monotonic() + wait_s
    found = asked
    while not is_over(found) and time.monotonic() < deadline:
        time.sleep(POLL_S)  # the pause between two polls of a condition with a deadline
        listed = {one.profile: one for one in router.health().runtimes}
        # One that is down and of no active profile is not listed any more.
        found = listed.get(asked.profile, asked.model_copy(update={"status": STOPPED}))
    return found


def _has_failed(one: Runtime) -> bool:
    return one.status == FAILED or (one.status == STOPPED and bool(one.reason))


def _is_another(found: Runtime, asked: Runtime) -> bool:
    """Say whether another process has taken the place of the one that was to stop: that one is gone."""
    return found.status in BEGINNING or (asked.pid is not None and found.pid not in (None, asked.pid))


def not_started(found: Runtime, waited_s: float) -> Diagnostic:
    """An instance does not come up."""
    reason = found.reason or f"it is {found.status} after {waited_s:.0f} s"
    return Diagnostic(
        code="KI845",
        summary="Instance does not start",
        detail=f"{found.profile} does not run: {reason}",
        hint=f"`modelctl logs {found.profile}` has its log, `modelctl ps` what else holds memory.",
        address=found.profile,
    )


def not_stopped(found: Runtime, waited_s: float) -> Diagnostic:
    """An instance does not go down."""
    return Diagnostic(
        code="KI849",
        summary="Instance does not stop",
        detail=f"{found.profile} is {found.status} after {waited_s:.0f} s, with {found.active_requests} requests.",
        hint="It finishes the requests that it has first; the router stops it when they are done or its time is over.",
        address=found.profile,
    )
