"""Installations of tiny services under the embedded supervisor: real files and processes, and no models."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.cli.changing import Manner, carry_out, carry_out_locked
from kloros_infra.cli.confirming import do_confirmed
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.wiring import ManagerChoice, Target, generations_of, stop_supervisor
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.names import LLM_TARGET
from kloros_infra.planner.desired import Desired

ONE = {"kloros-a.service": "1", "kloros-b.service": "1"}
TWO = {"kloros-a.service": "2", "kloros-b.service": "1"}
ALL = frozenset(ONE)
WAIT_S = 20.0
QUIETLY = Manner(yes=True, shows_plan=False)


def target_at(root: Path) -> Target:
    """Give the target of a root."""
    return Target(root.resolve(), ManagerChoice.SUPERVISOR)


def tiny(where: Target, services: Mapping[str, str], note: str = "", *, on_change: str = "") -> Desired:
    """Want services, by name with the version that each process is to show, and a fixed file with a note.

    With a word for what happens on a change, each also comes back when it is killed.
    """
    layout = where.layout
    tree: dict[str, Artifact] = {
        layout.program_path("sleeper"): TextFile("#!/bin/sh\nexec sleep 1000\n", 0o755),
        layout.routing: TextFile(f'{{"services": {sorted(services)}}}\n'.replace("'", '"')),
        layout.tmpfiles: TextFile(f"# {note}\n"),
        layout.unit_path(LLM_TARGET): TextFile(f"[Unit]\nWants={' '.join(sorted(services))}\n"),
        layout.unit_path(f"multi-user.target.wants/{LLM_TARGET}"): Link(f"../{LLM_TARGET}"),
    }
    head = f"[Unit]\nX-Kloros-OnChange={on_change}\n" if on_change else ""
    back = "Restart=always\nRestartSec=100ms\n" if on_change else ""
    for name, version in services.items():
        env = f"VERSION='{version}'\n"
        env_path = f"{layout.env}/{name}.{hashlib.sha256(env.encode()).hexdigest()[:8]}.env"
        tree[env_path] = TextFile(env)
        tree[layout.unit_path(name)] = TextFile(
            f"{head}[Service]\nType=exec\nEnvironmentFile={layout.absolute(env_path)}\n"
            f"ExecStart=:{layout.absolute(layout.program_path('sleeper'))}\nTimeoutStopSec=2\n{back}"
        )
    units = (*(DesiredUnit(name, Run.ALWAYS) for name in sorted(services)), DesiredUnit(LLM_TARGET, Run.ALWAYS))
    return Desired(tree=tree, layout=layout, profile="", units=units)


def broken(where: Target, services: Mapping[str, str]) -> Desired:
    """Want services whose program is not there."""
    desired = tiny(where, services)
    tree = {path: artifact for path, artifact in desired.tree.items() if path != where.layout.program_path("sleeper")}
    return replace(desired, tree=tree)


def apply_quietly(desired: Desired, where: Target) -> bool:
    """Apply without a question or a plan; say whether anything changed."""
    return carry_out(desired, where, QUIETLY)


def carry_out_confirmed(desired: Desired, where: Target, manner: Manner, *, within_s: float | None) -> None:
    """Apply; with `within_s`, what was done is undone unless it is confirmed by then."""

    def work(machine: Machine, display: ProgressDisplay) -> object:
        return carry_out_locked(desired, where, manner, machine=machine, display=display)

    do_confirmed(work, where, wait_s=manner.wait_s, within_s=within_s)


def running(where: Target, names: Mapping[str, str] | frozenset[str]) -> dict[str, str]:
    """Map the services that run to the version that their processes were started with."""
    states = SupervisorClient(where.root).states(tuple(names))
    return {name: version_of(state.main_pid) for name, state in states.items() if state.main_pid}


def version_of(pid: int) -> str:
    """Read a process's version from its environment."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(one.removeprefix("VERSION=") for one in variables if one.startswith("VERSION="))


def tree_of(root: Path) -> dict[str, str]:
    """Describe everything below a root: folders, links, and files with mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = f"{path.stat().st_mode:o}"
        elif path.is_file():
            found[name] = f"{path.stat().st_mode:o} {path.read_bytes()!r}"
    return found


def end(where: Target) -> None:
    """Stop the supervisor of a target."""
    stop_supervisor(where)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds; fail after the deadline."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def current(where: Target) -> int | None:
    """Give the number of the current generation."""
    return generations_of(where).history().current
