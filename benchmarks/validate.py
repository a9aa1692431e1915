"""Measure what checking a models.yaml costs: each station of `kloros-infra validate`, by the number of models.

Writes projects with a lock into a scratch folder and checks each in processes of its own. Times are of the processor,
for the work has one thread and waits for nothing; of all runs the median counts. Prints a Markdown table:

    python -m benchmarks.validate
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.emit_lock import emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.stations import Station, check_project
from kloros_infra.diagnostics import has_errors
from tests.factories import a_gguf_header, a_lock_for

SIZES = (100, 1000, 4000)
READ = "read"
STATIONS = (READ, *(station.value for station in Station))
HEAD = """\
version: 1

hosts:
  workstation: {role: local, llama_server: /opt/llama.cpp/llama-server}

gpus:
  rtx3060:
    host: workstation
    uuid: GPU-5a2b3c4d-0000-1111-2222-333344445555    # nvidia-smi -L
    vram: 12GiB
    reserve: 1GiB                     # the desktop lives here
    bandwidth: 360GB/s
    compute_capability: "8.6"

profiles:                             # best first
  gpu: {gpus: [rtx3060]}
  cpu_only: {gpus: []}

purposes:
  code: {candidates: [code-0000], default: true}

models:
"""
MODEL = """\
  - id: code-NUMBER                     # units are llama@coder-NUMBER-gpu.service
    name: coder-NUMBER
    display_name: Coder 7B, number NUMBER
    aliases: ["coder:NUMBER", "coder-instruct:NUMBER"]
    purpose_tags: [code_understanding, code_generation]
    languages: [python, typescript, rust]
    context_tokens: 32000
    cost_tier: medium
    parallel: 2
    preload: false                    # one of very many
    current_version: "2025-11-17-01"
    versions:
      - version_id: "2025-11-10-01"
        gguf_url: hf://models/coder-7b-GGUF/coder-7b-instruct-NUMBER-q4_0.gguf
        architecture: qwen2.5-7b
        quantization: Q4_0
        notes: First deployment
      - version_id: "2025-11-17-01"
        gguf_url: hf://models/coder-7b-GGUF/coder-7b-instruct-NUMBER-q5_k_m.gguf
        architecture: qwen2.5-7b
        quantization: Q5_K_M
    placement: fit
    profiles:
      gpu: {port: GPU_PORT}
      cpu_only: {port: CPU_PORT}

"""
FIRST_PORT = 12000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one check took."""

    seconds: dict[str, float]
    peak_bytes: int


def write_project(folder: Path, models: int) -> int:
    """Write a project of many models with its lock; give the size of models.yaml in bytes."""
    numbers = ((f"{index:04}", FIRST_PORT + 2 * index) for index in range(models))
    text = HEAD + "".join(
        MODEL.replace("NUMBER", number).replace("GPU_PORT", str(port)).replace("CPU_PORT", str(port + 1))
        for number, port in numbers
    )
    (folder / "models.yaml").write_text(text)
    parsed, problems = parse(text, file="models.yaml")
    if parsed is None:
        raise SystemExit(f"the benchmark's own models.yaml is wrong: {problems[0]}")
    for name, content in emit_lock(a_lock_for(parsed.config, header=a_gguf_header())).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return len(text.encode())


def measure_here(file: Path) -> Cost:
    """Check a project in this process."""
    begun: list[tuple[str, float]] = [(READ, time.process_time())]
    sources = compiler_sources(read_project(file))
    checked = check_project(sources, lambda station: begun.append((station.value, time.process_time())))
    ends = [at for _, at in begun[1:]] + [time.process_time()]
    if has_errors(checked.problems):
        raise SystemExit(f"the benchmark's own project is wrong: {checked.problems[0]}")
    seconds = {station: end - at for (station, at), end in zip(begun, ends, strict=True)}
    return Cost(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure_apart(file: Path, runs: int, *, is_collector_off: bool) -> Iterator[Cost]:
    """Check a project in one new process after another."""
    argv = [sys.executable, "-m", "benchmarks.validate", "--check", str(file)]
    argv += ["--collector-off"] if is_collector_off else []
    for _ in range(runs):
        found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
        yield Cost(found["seconds"], found["peak_bytes"])


def row(models: int, size_bytes: int, costs: list[Cost]) -> str:
    """Write the medians of all runs as a row of the table."""
    medians = [statistics.median(cost.seconds[station] for cost in costs) for station in STATIONS]
    whole = statistics.median(sum(cost.seconds.values()) for cost in costs)
    peak = statistics.median(cost.peak_bytes for cost in costs) / 2**20
    cells = [f"{models}", f"{size_bytes / 2**20:.2f}", *(f"{one * 1000:.0f}" for one in (*medians, whole))]
    return f"| {' | '.join(cells)} | {whole / models * 1e6:.0f} | {peak:.0f} |"


def main() -> None:
    """Measure all sizes, or be one of the measured processes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--collector-off", action="store_true", help="pause Python's collector of cycles")
    arguments.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.check is not None:
        if chosen.collector_off:
            gc.disable()
        cost = measure_here(chosen.check)
        print(json.dumps({"seconds": cost.seconds, "peak_bytes": cost.peak_bytes}))  # noqa: T201 - to the parent
        return
    names = ("models", "MiB", *(f"{station} ms" for station in STATIONS), "all ms", "µs/model", "peak MiB")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")  # noqa: T201 - its output
    for models in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            size_bytes = write_project(Path(folder), models)
            file = Path(folder) / "models.yaml"
            costs = list(measure_apart(file, chosen.runs, is_collector_off=chosen.collector_off))
            print(row(models, size_bytes, costs), flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
