"""Measure what `kloros-infra compile` and `plan` cost from the start of the process to its end, by instances.

Each model has one instance and a header of its own, of a model with 28 layers and 339 tensors; it is pinned to a small
file, so that the project can really be applied: what a plan without changes costs is measured against a root that
`apply` made, with its embedded supervisor. Nothing is loaded, for no model is preloaded.

Times are of the processor (user and system) and of the clock; of all runs the least of each counts, which other work
on the machine disturbed least. Prints Markdown tables:

    python -m benchmarks.commands
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kloros_infra.cli.wiring import stop_supervisor, target
from kloros_infra.compiler.emit_lock import emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, Origin
from kloros_infra.placement.published import derive_header
from tests.factories import a_lock_for

SIZES = (10, 100, 1000)
SPLIT_SIZE = 1000
FIRST_PORT = 12000
HEAD = """\
version: 1
hosts: {workstation: {role: local, llama_server: /bin/true}}
gpus:
  rtx5080:
    host: workstation
    uuid: GPU-1a2b3c4d-0000-1111-2222-333344445555
    vram: 16GiB
    bandwidth: 960GB/s
    compute_capability: "12.0"
  rtx3060:
    host: workstation
    uuid: GPU-2a2b3c4d-0000-1111-2222-333344445555
    vram: 12GiB
    bandwidth: 360GB/s
    compute_capability: "8.6"
  gtx1080ti:
    host: workstation
    uuid: GPU-3a2b3c4d-0000-1111-2222-333344445555
    vram: 11GiB
    bandwidth: 484GB/s
    compute_capability: "6.1"
profiles:
  all: {gpus: [rtx5080, rtx3060, gtx1080ti]}
  cpu_only: {gpus: []}
bus: {xsub: "tcp://127.0.0.1:XSUB", xpub: "tcp://127.0.0.1:XPUB", direct: off}
bridge: {ports: [BRIDGE]}
defaults: {preload: false}
purposes: {code: {candidates: [code-0000], default: true}}
models:
"""
MODEL = """\
  - id: code-NUMBER
    display_name: Coder, number NUMBER
    aliases: ["coder:NUMBER", "coder-instruct:NUMBER"]
    purpose_tags: [code_understanding, code_generation]
    languages: [python, typescript, rust]
    context_tokens: CONTEXT
    cost_tier: medium
    versions:
      - version_id: "2025-11-17-01"
        gguf_url: file://FOLDER/code-NUMBER.gguf
        architecture: ARCHITECTURE
        quantization: Q4_K_M
    profiles: {PROFILE: {port: PORT}}
"""
SMALL, SPLIT = ("qwen2.5-7b", "cpu_only"), ("qwen2.5-32b", "all")
"""A model that runs on any machine, this one as well, and one that has to be divided between three cards."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Site:
    """A project in a scratch folder, with a cache of its own and roots to plan for."""

    folder: Path
    models: int
    architecture: str
    profile: str
    ports: tuple[int, ...]

    @property
    def file(self) -> Path:
        return self.folder / "models.yaml"

    def write(self) -> None:
        """Write the project, its lock, and the small files that stand for its weights."""
        self.edit(32000)
        parsed, problems = parse(self.file.read_text(), file="models.yaml")
        if parsed is None:
            raise SystemExit(f"the benchmark's own models.yaml is wrong: {problems[0]}")
        header = derive_header(self.architecture, "Q4_K_M")
        if header is None:
            raise SystemExit("the benchmark's own model is not known")
        entries = a_lock_for(parsed.config, header=header).weights.values()
        lock = Lock({one.key: pinned(one, number) for number, one in enumerate(entries)})
        for name, content in emit_lock(lock).items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(content)

    def edit(self, context_tokens: int) -> None:
        """Write models.yaml anew; the first model's context is what is changed."""
        head = HEAD
        for name, port in zip(("XSUB", "XPUB", "BRIDGE"), self.ports, strict=True):
            head = head.replace(name, str(port))
        models = (self.model(number, context_tokens if number == 0 else 32000) for number in range(self.models))
        self.file.write_text(head + "".join(models))

    def model(self, number: int, context_tokens: int) -> str:
        """Write one model."""
        values = {
            "NUMBER": f"{number:04}",
            "PORT": str(FIRST_PORT + number),
            "CONTEXT": str(context_tokens),
            "FOLDER": str(self.folder),
            "ARCHITECTURE": self.architecture,
            "PROFILE": self.profile,
        }
        return re.sub("|".join(values), lambda found: values[found[0]], MODEL)

    def forget(self, *names: str) -> None:
        """Remove folders of the site."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def run(self, *words: str) -> Cost:
        """Run `kloros-infra` once."""
        argv = [sys.executable, "-m", "kloros_infra", *words]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}
        log, flags = str(self.folder / "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        into_log = [(os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
        begun = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=into_log)
        _, status, usage = os.wait4(pid, 0)
        wall_s = time.perf_counter() - begun
        # A plan ends with 2 where there are changes.
        if os.waitstatus_to_exitcode(status) not in (0, 2):
            said = Path(log).read_text()[-2000:]
            raise SystemExit(f"{' '.join(argv)} failed:\n{said}")
        return Cost(usage.ru_utime + usage.ru_stime, wall_s)

    def compile(self, *words: str) -> Cost:
        """Run compile."""
        return self.run("compile", "--file", str(self.file), *words)

    def plan(self, root: str, *words: str) -> Cost:
        """Plan for a root."""
        return self.run("plan", *self._target(root), *words)

    def apply(self, root: str) -> None:
        """Make a root."""
        self.run("apply", "--yes", *self._target(root))

    def _target(self, root: str) -> tuple[str, ...]:
        return ("--file", str(self.file), "--root", str(self.folder / root), "--profile", self.profile)


def pinned(entry: LockedWeights, number: int) -> LockedWeights:
    """Pin weights to a small file of their own, with a header of its own."""
    data = entry.key.encode()
    path = Path(entry.source[0].removeprefix("file://"))
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return replace(
        entry,
        origin=Origin.FILE,
        files=(LockedFile(entry.source[0], len(data), sha256),),
        size_bytes=len(data),
        sha256=sha256,
        header=replace(entry.header, context_length=entry.header.context_length + number),
    )


@contextmanager
def a_site(models: int, kind: tuple[str, str]) -> Iterator[Site]:
    """Give a site in a scratch folder."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = tuple(one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), models, *kind, ports)
        site.write()
        try:
            yield site
        finally:
            stop_supervisor(target(site.folder / "root", "auto"))


def contexts() -> Iterator[int]:
    """Give one context after another, so that each compile finds the first model changed."""
    yield from range(16000, 32000)


def compile_runs(site: Site) -> dict[str, Callable[[], Cost]]:
    """Name what is measured of compile; each run leaves the site as the next one needs it."""
    tokens = contexts()

    def from_nothing() -> Cost:
        site.forget("cache", "generated")
        return site.compile()

    def without_cache() -> Cost:
        site.edit(next(tokens))
        return site.compile("--no-cache")

    def one_changed() -> Cost:
        site.edit(next(tokens))
        return site.compile()

    return {
        "from nothing": from_nothing,
        "one model changed, `--no-cache`": without_cache,
        "one model changed": one_changed,
        "nothing changed": site.compile,
    }


def plan_runs(site: Site) -> dict[str, Callable[[], Cost]]:
    """Name what is measured of plan; the site's root is as its project asks."""

    def without_cache() -> Cost:
        return site.plan("empty", "--no-cache")

    return {
        "all new, `--no-cache`": without_cache,
        "all new": lambda: site.plan("empty"),
        "no changes": lambda: site.plan("root"),
    }


def measured(runs: dict[str, Callable[[], Cost]], times: int) -> dict[str, Cost]:
    """Run each so many times, the first of them not counted; give the least times."""
    found = {}
    for name, run in runs.items():
        run()
        costs = [run() for _ in range(times)]
        found[name] = Cost(min(cost.cpu_s for cost in costs), min(cost.wall_s for cost in costs))
    return found


def measure(size: int, times: int) -> dict[str, Cost]:
    """Measure all of one size."""
    with a_site(size, SMALL) as site:
        (site.folder / "empty").mkdir()
        compiled = measured(compile_runs(site), times)
        site.apply("root")
        planned = measured(plan_runs(site), times)
    return {f"compile, {name}": cost for name, cost in compiled.items()} | {
        f"plan, {name}": cost for name, cost in planned.items()
    }


def table(columns: dict[str, dict[str, Cost]]) -> str:
    """Write a table with a column for each size."""
    names = list(next(iter(columns.values())))
    head = f"| command | {' | '.join(f'{size}: CPU s | wall s' for size in columns)} |"
    rule = f"|---|{'---|---|' * len(columns)}"
    rows = (
        f"| {name} | "
        + " | ".join(f"{costs[name].cpu_s:.2f} | {costs[name].wall_s:.2f}" for costs in columns.values())
        + " |"
        for name in names
    )
    return "\n".join((head, rule, *rows))


def main() -> None:
    """Measure all sizes, then the models that are divided between cards."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    chosen = arguments.parse_args()
    columns = {str(size): measure(size, chosen.runs) for size in chosen.sizes}
    print(table(columns))  # noqa: T201 - its output
    with a_site(SPLIT_SIZE, SPLIT) as site:
        runs = compile_runs(site)
        columns = {f"{SPLIT_SIZE} divided between three cards": measured(runs, chosen.runs)}
    print(f"\n{table(columns)}")  # noqa: T201 - its output


if __name__ == "__main__":
    main()
