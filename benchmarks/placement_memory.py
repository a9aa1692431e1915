"""Compare the memory that placement foresees with what a real llama-server says it needs, on pretend cards.

Writes sparse files of published models (some kB each), compiles the pretend cards and asks the pinned llama-server for
every family, context and set of devices. Prints a Markdown table, and what is off by more than 3 % and 64 MiB; the exit
status then is 1:

    python -m benchmarks.placement_memory
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.memory_matrix import Compared, Oracle, whole_matrix
from tests.sparse_models import FAMILIES

HEAD = ("| model | plans | devices | mean | worst | where |", "| --- | --- | --- | --- | --- | --- |")


def main() -> int:
    """Run the whole matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help=f"families to compare (all): {', '.join(FAMILIES)}")
    chosen = set(parser.parse_args().families) or set(FAMILIES)
    cases = [case for case in whole_matrix() if case.family in chosen]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        compared = Oracle(Path(folder)).compared(cases)
    lines = [f"{len(cases)} plans, {len(compared)} devices, {time.monotonic() - start:.0f} s", "", *HEAD]
    lines += [
        _row(family, [one for one in compared if one.case.family == family]) for family in FAMILIES if family in chosen
    ]
    off = [one for one in compared if not one.is_as_foreseen]
    lines += ["", f"{len(off)} devices off by more than 3 % and 64 MiB", *map(str, off)]
    sys.stdout.write("\n".join([*lines, ""]))
    return 1 if off else 0


def _row(family: str, compared: Sequence[Compared]) -> str:
    worst = max(compared, key=_badness)
    mean = sum(abs(one.deviation) for one in compared) / len(compared)
    plans = len({one.case for one in compared})
    where = f"{worst.load.device} of {str(worst.case).partition(', ')[2]}"
    figures = f"{worst.deviation_mib:+.0f} MiB ({worst.deviation:+.1%})"
    return f"| {family} | {plans} | {len(compared)} | {mean:.2%} | {figures} | {where} |"


def _badness(one: Compared) -> float:
    """Rank by the share of what is allowed."""
    return abs(one.deviation_mib) / max(64.0, 0.03 * one.measured.used_mib)


if __name__ == "__main__":
    sys.exit(main())
