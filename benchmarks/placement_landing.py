"""Load what placement emits with a real llama-server on pretend cards, and see that it lands as foreseen.

Every family, context and set of devices is placed and loaded on cards with exactly the memory that the plan may use;
then the same is asked for where nothing has room for it, which must be refused; then the least card of some families is
found, and loaded. Prints Markdown tables and what failed; the exit status then is 1:

    python -m benchmarks.placement_landing
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.landing_matrix import EDGES, Edge, Landed, Landing, too_full, whole_matrix
from tests.sparse_models import FAMILIES

HEAD = (
    "| model | plans | whole on cards | experts elsewhere | layers on the CPU | splits | landed |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)
EDGES_HEAD = ("| model | least card | with a MiB less | with it |", "| --- | --- | --- | --- |")
REFUSED = frozenset({"KI401", "KI413"})


def main() -> int:
    """Run the whole matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help=f"families to load (all): {', '.join(FAMILIES)}")
    chosen = set(parser.parse_args().families) or set(FAMILIES)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        landing = Landing(Path(folder))
        landed = tuple(landing.landed(case for case in whole_matrix() if case.family in chosen))
        edges = {case.family: landing.edge(case) for case in EDGES if case.family in chosen}
    failed = [f"{one.case}: {failure}" for one in landed for failure in _failures(one)]
    failed += [f"{family} at its edge: {failure}" for family, edge in edges.items() for failure in edge.failures]
    emitted, refusals = _emitted_in_spite(chosen)
    lines = [f"{len(landed)} plans, {time.monotonic() - start:.0f} s", "", *HEAD, *_rows(landed), ""]
    lines += [*EDGES_HEAD, *(_edge_row(family, edge) for family, edge in edges.items()), ""]
    lines += [f"{refusals} over-full plans refused", "", f"{len(failed) + len(emitted)} failures", *failed, *emitted]
    sys.stdout.write("\n".join([*lines, ""]))
    return 1 if failed or emitted else 0


def _failures(one: Landed) -> Sequence[str]:
    """The sets of devices have room for every model: a refusal is a failure here."""
    return [f"refused: {problem.detail}" for problem in one.problems] if one.is_refused else one.failures


def _emitted_in_spite(chosen: Iterable[str]) -> tuple[list[str], int]:
    """Ask for every family and context where there is half the room, and count what is refused."""
    cases = {replace(case, devices="half the room") for case in whole_matrix() if case.family in set(chosen)}
    found = {case: too_full(case) for case in sorted(cases, key=str)}
    emitted = [
        f"{case}: {[problem.code for problem in problems]}"
        for case, (placement, problems) in found.items()
        if placement is not None or not {problem.code for problem in problems} <= REFUSED
    ]
    return emitted, len(found) - len(emitted)


def _rows(landed: Sequence[Landed]) -> Iterable[str]:
    for family in FAMILIES:
        own = [one for one in landed if one.case.family == family]
        if not own:
            continue
        splits = [one.report.main.graph_splits or 0 for one in own if one.report and one.report.main]
        spread = f"{min(splits)} to {max(splits)}" if splits else "none"
        counts = (
            len(own),
            sum(one.is_whole_on_cards for one in own),
            sum(one.has_experts_elsewhere for one in own),
            sum(one.has_layers_on_cpu for one in own),
        )
        good = sum(not _failures(one) for one in own)
        yield f"| {family} | {' | '.join(map(str, counts))} | {spread} | {good} |"


def _edge_row(family: str, edge: Edge) -> str:
    codes = ", ".join(sorted(problem.code for problem in edge.refused))
    return f"| {family} | {edge.least_mib} MiB | {codes} | {'fails' if edge.landed.failures else 'lands'} |"


if __name__ == "__main__":
    sys.exit(main())
