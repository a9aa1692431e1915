"""Measure what planning costs by the number of instances: nothing to do, one model changed, everything new.

Only the planner is measured: the tree is compiled, and the machine looked at, beforehand. Times are of the processor,
the median of all runs. Prints a Markdown table:

    python -m benchmarks.plan
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.placing import place_all
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.desired import Desired, desired_state
from kloros_infra.planner.diff import plan
from kloros_infra.planner.explain import explain
from kloros_infra.planner.fingerprint import fingerprint
from kloros_infra.planner.request import PlanRequest
from kloros_infra.planner.saved_plan import SavedPlan, load_plan, save_plan
from kloros_infra.planner.unit_keys import unit_keys
from tests.factories import (
    a_catalog,
    a_gguf_header,
    a_model,
    a_profile,
    a_purpose,
    a_serving,
    an_instance,
    some_weights,
)
from tests.sites import converged, fresh

SIZES = (10, 100, 1000)
FIRST_PORT = 12000
LAYOUT = Layout()


def a_large_catalog(count: int, *, context_tokens: int = 2048) -> Catalog:
    """Describe so many models, each under one profile; the first one has its own context."""
    profile = a_profile("cpu_only")
    header = a_gguf_header()
    instances: list[Instance] = []
    for number in range(count):
        weights = some_weights(f"m{number:04}@1", header=header, size_bytes=10**9)
        serving = a_serving(context_tokens=context_tokens if number == 0 else 2048)
        model = a_model(f"m{number:04}", weights=weights)
        instances.append(an_instance(model, profile, port=FIRST_PORT + number, serving=serving))
    purpose = a_purpose("fast", *(instance.model.id for instance in instances[:3]), is_default=True)
    return a_catalog(*instances, profiles=(profile,), purposes=(purpose,))


def compiled(catalog: Catalog) -> ArtifactTree:
    """Emit a catalog's tree; placing one instance of equal ones is enough to know all."""
    placements, _ = place_all(catalog)
    return emit(catalog, placements, read_templates(), LAYOUT)


def desired(count: int, *, context_tokens: int = 2048) -> Desired:
    """Say what so many instances need of a machine."""
    catalog = a_large_catalog(count, context_tokens=context_tokens)
    return desired_state(catalog, compiled(catalog), layout=LAYOUT, profile="cpu_only")


def measured(work: Callable[[], object], runs: int) -> float:
    """Give the median of the processor's time in milliseconds."""

    def times() -> Iterator[float]:
        for _ in range(runs):
            # A command is one plan in a new process: nothing was read before.
            unit_keys.cache_clear()
            begun = time.process_time()
            work()
            yield time.process_time() - begun

    return statistics.median(times()) * 1000


def row(count: int, runs: int) -> str:
    """Measure one size and write a row of the table."""
    wanted, changed = desired(count), desired(count, context_tokens=1024)
    machine = converged(wanted)
    empty = fresh(wanted)
    everything = plan(wanted, empty)[0]
    check(plan(wanted, machine)[0], plan(changed, machine)[0], everything, count)
    saved = SavedPlan(everything, fingerprint(wanted, empty), PlanRequest(), "0")
    text = save_plan(saved)
    restarted = replace(wanted, replaced=frozenset(unit.unit for unit in wanted.units))
    cells = (
        measured(lambda: plan(wanted, machine), runs),
        measured(lambda: plan(changed, machine), runs),
        measured(lambda: plan(wanted, empty), runs),
        measured(lambda: plan(restarted, machine), runs),
        measured(lambda: explain(everything, (), width=100, color=False), runs),
        measured(lambda: fingerprint(wanted, machine), runs),
        measured(lambda: load_plan(text), runs),
    )
    return f"| {count} | {' | '.join(f'{one:.0f}' for one in cells)} |"


def check(nothing: Plan, one: Plan, everything: Plan, count: int) -> None:
    """End when the plans are not what the table says."""
    instances = [change for change in everything.changes if change.address.startswith("instance.")]
    if not nothing.is_empty or len(instances) != count:
        raise SystemExit("the benchmark's own plans are wrong")
    if [change.address for change in one.changes if change.unit_action] != ["instance.m0000-cpu_only"]:
        raise SystemExit("the benchmark's own change is wrong")


def main() -> None:
    """Measure all sizes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    chosen = arguments.parse_args()
    names = ("instances", *(f"{name} ms" for name in NAMES))
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")  # noqa: T201 - its output
    for count in SIZES:
        print(row(count, chosen.runs), flush=True)  # noqa: T201 - its output


NAMES = ("nothing to do", "one changed", "all new", "all restarted", "explain", "fingerprint", "load saved")


if __name__ == "__main__":
    main()
