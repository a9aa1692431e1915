"""An installation as it was before there were generations, and what takes it over; runs inside the container.

python -m tests.system.former install | apply | apply-broken | apply-killed STEP | recover | destroy | look
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from kloros_infra.adapters.systemd import Systemd
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.adapters.templates import read_templates
from kloros_infra.cli.changing import carry_out_locked
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import recover
from kloros_infra.cli.wiring import ManagerChoice, Target, leave, locked_machine, observe_target
from kloros_infra.compiler.emit_generator import emit_generator
from kloros_infra.compiler.rendering import rendering
from kloros_infra.errors import KlorosError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.file_changes import digest
from tests.tiny_site import ONE, QUIETLY, TWO, apply_quietly, tiny, version_of

HERE = Target(Path("/"), ManagerChoice.SYSTEMD)
RECORD = "var/lib/kloros-infra/installed.json"


@dataclass(frozen=True, slots=True)
class FormerTarget(Target):
    """This machine, with everything where it once was."""

    @property
    def layout(self) -> Layout:
        return Layout(
            units="etc/systemd/system",
            env="etc/kloros-infra/env",
            routing="etc/kloros-infra/routing.json",
            programs="usr/lib/kloros-infra/bin",
        )


class DeadlyDisplay(ProgressDisplay):
    """Kills its own process when a step begins."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self._step = step

    def step(self, index: int, total: int, text: str) -> None:
        super().step(index, total, text)
        if text == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Write the files and their record, and start the services."""
    former = tiny(FormerTarget(HERE.root, HERE.manager), ONE)
    files = RootedFiles(HERE.root)
    for path, artifact in former.tree.items():
        files.write(path, artifact)
    digests = {path: digest(artifact) for path, artifact in sorted(former.tree.items())}
    body = {"version": 1, "digests": digests, "is_unfinished": False, "owed": []}
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    file = HERE.root / RECORD
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**body, "checksum": checksum}, indent=1) + "\n")
    manager = Systemd()
    manager.reload()
    for unit in former.units:
        manager.start(unit.unit)


def with_generator(desired: Desired) -> Desired:
    generator = dict(emit_generator(rendering(read_templates(), HERE.layout)))
    return replace(desired, tree={**desired.tree, **generator})


def failing() -> Desired:
    """Want services whose program is there and cannot be run."""
    desired = tiny(HERE, TWO)
    return replace(desired, tree={**desired.tree, HERE.layout.program_path("sleeper"): TextFile("#!/none\n", 0o755)})


def apply_killed(step: str) -> None:
    display = DeadlyDisplay(step)
    with locked_machine(HERE, display) as machine:
        carry_out_locked(with_generator(tiny(HERE, TWO)), HERE, QUIETLY, machine=machine, display=display)


def look() -> Mapping[str, object]:
    """Tell which version each service runs by, whether a plan is empty, and what the former places hold."""
    states = Systemd().states(tuple(ONE))
    desired = with_generator(tiny(HERE, TWO))
    made, _ = plan(desired, observe_target(desired, HERE))
    former = tiny(FormerTarget(HERE.root, HERE.manager), ONE).tree
    files = RootedFiles(HERE.root)
    own = [path for path in former if path != HERE.layout.tmpfiles]
    return {
        "versions": {unit: version_of(state.main_pid) for unit, state in states.items() if state.main_pid},
        "steps": len(made.steps),
        "former": [path for path in own if files.read(path) is not None],
        "is_intact": all(files.read(path) == former[path] for path in own),
    }


def main(command: str, *words: str) -> None:
    match command:
        case "install":
            install()
        case "apply":
            apply_quietly(with_generator(tiny(HERE, TWO)), HERE)
        case "apply-broken":
            apply_quietly(with_generator(failing()), HERE)
        case "apply-killed":
            apply_killed(*words)
        case "recover":
            recover(HERE, QUIETLY)
        case "destroy":
            apply_quietly(nothing_desired(HERE.layout), HERE)
            leave(HERE)
    click.echo(json.dumps(look()))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KlorosError as error:
        sys.exit(" ".join(problem.code for problem in error.problems))
