"""Bring pinned weights onto this machine: into the store, or where that may not be written, into caches."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.wiring import Target, weights_sources, weights_store
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.ports import WeightsStore
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.planner.figures import size_text

NOT_WRITABLE = "KI513"


def fetch(steps: Sequence[PlaceWeights], where: Target) -> None:
    """Bring weights in, each verified against the lock; raise ObstacleError where a source is missing or differs."""
    try:
        with apply_lock(where.root):
            _store(steps, where)
    except ObstacleError as error:
        if error.problems[0].code != NOT_WRITABLE:
            raise
        _cache(steps, where)


def _store(steps: Sequence[PlaceWeights], where: Target) -> None:
    store = weights_store(where)
    verified = store.verified()
    for step in steps:
        if verified.get(step.destination) == step.sha256:
            click.echo(f"{step.key} is in {where.root / step.destination} already.")
            continue
        _place(step, store)
        click.echo(f"{step.key}: {size_text(step.size_bytes)} in {where.root / step.destination}.")


def _place(step: PlaceWeights, store: WeightsStore) -> None:
    display = ProgressDisplay()
    try:
        store.place(step, lambda done, total: display.long_step(f"storing {step.key}", done, total))
    finally:
        display.close()


def _cache(steps: Sequence[PlaceWeights], where: Target) -> None:
    sources = weights_sources()
    for step in steps:
        for url in step.sources:
            path = next(source.locate(url, step.revision) for source in sources if source.handles(url))
            click.echo(f"{step.key}: {path}")
    click.echo(
        f"{where.root} may not be written by this user, so nothing was stored there: apply reads the files from where "
        "they are, if it runs as this user. Run pull as the user who runs apply."
    )
