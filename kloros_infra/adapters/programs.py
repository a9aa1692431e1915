"""Find the programs that units run: llama-server, and kloros-infra itself."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.packages import SCHEME, find_in_package
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ObstacleError

# ProtectHome=yes and PrivateTmp=yes: systemd.exec(5).
HIDDEN_FOLDERS = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - compared, not written to


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and the folder of the libraries that came with it."""

    path: str
    library_path: str | None = None


def find_llama_server(reference: str) -> Program:
    """Find an absolute path or `package://module/file`; raise ObstacleError when it cannot be run."""
    file = find_in_package(reference) if reference.startswith(SCHEME) else Path(reference)
    if file is None or not file.is_file():
        raise ObstacleError([_missing(reference, file)])
    if not os.access(file, os.X_OK):
        raise ObstacleError([_not_executable(file)])
    # A wheel keeps the libraries beside the program; a distribution's are found by the loader.
    has_libraries = any(file.parent.glob("lib*.so*"))
    return Program(str(file), str(file.parent) if has_libraries else None)


def find_rpc_server(reference: str) -> Program:
    """Find ggml-rpc-server in the same ways; raise ObstacleError when it cannot be run."""
    try:
        return find_llama_server(reference)
    except ObstacleError as error:
        raise ObstacleError([_no_rpc_server(reference)]) from error


def hidden_from_units(program: Program) -> Problems:
    """Report a program that systemd would hide from its own unit, whose sandbox closes these folders."""
    # A virtual environment's interpreter is a link: both ends must be seen.
    places = (program.path, str(Path(program.path).resolve()))
    hidden = ((place, folder) for place in places for folder in HIDDEN_FOLDERS if Path(place).is_relative_to(folder))
    return tuple(_hidden(place, folder) for place, folder in hidden)[:1]


def own_program() -> Program:
    """Give the interpreter that runs kloros-infra."""
    return Program(sys.executable)


def own_command() -> tuple[str, ...]:
    """Say how to run kloros-infra as it is installed here, whatever PATH a unit has."""
    return (own_program().path, "-m", "kloros_infra")


def _hidden(path: str, folder: str) -> Diagnostic:
    return Diagnostic(
        code="KI519",
        summary="Program hidden from its unit",
        detail=f"{path} lies below {folder}, which the sandbox of the units closes: systemd could not start it.",
        hint="Install it elsewhere, such as in a virtual environment below /opt, and apply with that one.",
        address="program",
    )


def _missing(reference: str, file: Path | None) -> Diagnostic:
    where = f"{reference} names a package that is not installed, or a file that it lacks"
    return Diagnostic(
        code="KI514",
        summary="llama-server not found",
        detail=f"{where if reference.startswith(SCHEME) else f'{file} does not exist'}.",
        hint="Set hosts.<name>.llama_server to the program's path, or get one with `pip install 'kloros-infra[demo]'`.",
        address="program.llama-server",
    )


def _no_rpc_server(reference: str) -> Diagnostic:
    return Diagnostic(
        code="KI438",
        summary="ggml-rpc-server not found",
        detail=f"{reference} is no program that this user can run.",
        hint="Build llama.cpp with -DGGML_RPC=ON, or set hosts.<name>.rpc.program to where it is.",
        address="program.ggml-rpc-server",
    )


def _not_executable(file: Path) -> Diagnostic:
    return Diagnostic(
        code="KI515",
        summary="llama-server cannot be run",
        detail=f"{file} is not executable for this user.",
        hint=f"chmod +x {file}, or name another program in hosts.<name>.llama_server.",
        address="program.llama-server",
    )
