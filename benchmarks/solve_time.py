"""Measure what a solve takes of the processor: published models by family, on sets of up to six unlike cards.

    python -m benchmarks.solve_time [--families NAME ...] [--sets NAME ...] [--context TOKENS]

The sets `small` and `tiny` hold large models with experts in part only, which is where the search is longest. Prints a
Markdown table; what took longest is its last line.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.placement import CONTEXT, RESERVE_MIB, cards
from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.ir.catalog import Card, HostMemory
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.placement.card_table import figures_of
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.solver import solve
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.factories import a_card
from tests.fakes.sparse_gguf import write_sparse_gguf
from tests.sparse_models import FAMILIES

MIB = 2**20
# What the driver and a desktop take of a card.
TAKEN_MIB = 500


def listed(*names: str) -> tuple[Card, ...]:
    """Describe cards by the built-in table."""
    return tuple(_listed(name) for name in names)


def _listed(name: str) -> Card:
    figures = figures_of(name)
    if figures is None:
        raise SystemExit(f"no card {name} in the table")
    return a_card(
        name,
        vram_bytes=figures.memory_bytes - TAKEN_MIB * MIB,
        reserve_bytes=RESERVE_MIB * MIB,
        bandwidth_bytes_per_s=figures.bandwidth_bytes_per_s,
        compute_capability=figures.compute_capability,
    )


TINY = ("rtx4060", "rtx3050", "rtx3070", "rtx2080", "gtx1070", "gtx1080")
SETS: Mapping[str, Callable[[], tuple[Card, ...]]] = {
    "1": lambda: cards()[:1],
    "2": lambda: cards()[1:],
    "3": cards,
    "4 small": lambda: (*cards(), *listed("rtx2080")),
    "4 tiny": lambda: listed(*TINY[:4]),
    "5": lambda: (*cards(), *listed("rtx3090", "rtx4070")),
    "5 small": lambda: (*cards(), *listed("rtx2080", "rtx3070")),
    "6": lambda: (*cards(), *listed("rtx3090", "rtx4070", "rtx2080ti")),
    "6 small": lambda: (*cards(), *listed("rtx2080", "rtx3070", "gtx1070")),
    "6 tiny": lambda: listed(*TINY),
}
"""Cards by the name of their set: how many, and how much less than a large model they hold."""


def row(family: str, set_name: str, header: GgufHeader, context_tokens: int) -> tuple[float, str]:
    """Solve once, and write a line of the table."""
    devices = devices_of(SETS[set_name](), cpu_device(HostMemory()))
    task = Task(header, Workload(context_tokens, parallel=1, micro_batch=512), devices)
    began_s = time.process_time()
    plan = solve(task)
    took_s = time.process_time() - began_s
    found = f"{plan.seconds * 1e3:.3f} | {plan.gap:.2%}" if plan else "– | –"
    return took_s, f"| {family} | {set_name} | {took_s:.2f} | {found} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--context", type=int, default=CONTEXT)
    chosen = parser.parse_args()
    sys.stdout.write("| model | cards | CPU s | ms for 4 + 1 | gap |\n|---|---|---|---|---|\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for family in chosen.families:
            header = read_header(write_sparse_gguf(FAMILIES[family](), Path(folder) / "model.gguf"))
            for set_name in chosen.sets:
                rows.append(row(family, set_name, header, chosen.context))
                sys.stdout.write(f"{rows[-1][1]}\n")
                sys.stdout.flush()
    sys.stdout.write(f"\nLongest: {max(rows)[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
