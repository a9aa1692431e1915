"""Which program a launcher of the installed generation stands for."""

from __future__ import annotations

import shlex
from pathlib import Path

from kloros_infra.adapters.programs import Program, find_llama_server
from kloros_infra.ir.artifact import text_of
from kloros_infra.planner.desired import Desired

_EXPORT, _EXEC = "export LD_LIBRARY_PATH=", "exec "


def program_of(desired: Desired | None) -> Program | None:
    """Read the launcher of llama-server; None without one. Raise ObstacleError where its program cannot be run."""
    if desired is None:
        return None
    lines = text_of(desired.tree.get(desired.layout.program_path("llama-server"))).splitlines()
    words = [shlex.split(line) for line in lines if line.startswith(_EXEC)]
    if not words or len(words[0]) < 2:
        return None
    found = find_llama_server(words[0][1])
    paths = [shlex.split(line.removeprefix(_EXPORT))[0] for line in lines if line.startswith(_EXPORT)]
    return Program(found.path, paths[0] if paths and Path(paths[0]).is_dir() else found.library_path)
