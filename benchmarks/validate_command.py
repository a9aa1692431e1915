"""Measure what the whole of `kloros-infra validate` costs: process, interpreter, lock, placement and all.

Every header file is another one, of a model with 28 layers and 339 tensors. Times are of the processor, user and
system, for the work has one thread; of all runs the median counts. The first row is hardly more than the start of the
process; the last column is what each model costs beyond it. Prints a Markdown table:

    python -m benchmarks.validate_command
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.validate import FIRST_PORT, HEAD, MODEL
from kloros_infra.compiler.emit_lock import emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.ir.config import Config
from kloros_infra.ir.lock import Lock
from kloros_infra.placement.published import derive_header
from tests.factories import a_lock_for

CASES = ((1, 1), (100, 1), (1000, 1), (1000, 2), (4000, 1))
"""How many models, and of how many versions of each the lock has a header."""
LATEST = "2025-11-17-01"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of the command took."""

    cpu_s: float
    peak_bytes: int


def write_project(folder: Path, models: int, versions: int) -> None:
    """Write models.yaml, its lock and its header files."""
    text = HEAD + "".join(
        MODEL.replace("NUMBER", f"{index:04}")
        .replace("GPU_PORT", str(FIRST_PORT + 2 * index))
        .replace("CPU_PORT", str(FIRST_PORT + 2 * index + 1))
        for index in range(models)
    )
    parsed, problems = parse(text, file="models.yaml")
    if parsed is None:
        raise SystemExit(f"the benchmark's own models.yaml is wrong: {problems[0]}")
    for name, content in {"models.yaml": text, **emit_lock(a_lock(parsed.config, versions))}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)


def a_lock(config: Config, versions: int) -> Lock:
    """Lock the latest version of each model, or all of them; each has a header of its own."""
    header = derive_header("qwen2.5-7b", "Q4_K_M")
    if header is None:
        raise SystemExit("the benchmark's own model is not known")
    whole = a_lock_for(config, header=header).weights
    kept = (entry for key, entry in whole.items() if versions > 1 or key.endswith(f"@{LATEST}"))
    contexts = enumerate(kept, start=header.context_length)
    return Lock({one.key: replace(one, header=replace(header, context_length=tokens)) for tokens, one in contexts})


def measure(file: Path) -> Cost:
    """Run the command once."""
    argv = [sys.executable, "-m", "kloros_infra", "validate", "--file", str(file)]
    nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=nowhere)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit("the benchmark's own project is wrong")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def main() -> None:
    """Measure all cases."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=9)
    runs = arguments.parse_args().runs
    names = ("models", "instances", "headers", "CPU s", "peak MiB", "µs/model")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")  # noqa: T201 - its output
    start_s = 0.0
    for models, versions in CASES:
        with tempfile.TemporaryDirectory() as folder:
            write_project(Path(folder), models, versions)
            costs = [measure(Path(folder) / "models.yaml") for _ in range(runs)]
        cpu_s = statistics.median(cost.cpu_s for cost in costs)
        peak = statistics.median(cost.peak_bytes for cost in costs) / 2**20
        start_s = start_s or cpu_s
        each = f"{(cpu_s - start_s) / models * 1e6:.0f}"
        cells = (models, 2 * models, models * versions, f"{cpu_s:.2f}", f"{peak:.0f}", each)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
