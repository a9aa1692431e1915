"""What the installed llama-server says of its own options, asked once for each build.

The answer is kept in the user's cache folder under the sha256 of the program and of its own libraries: in many builds
the program is a small stub, and what it knows is in libllama beside it. Hashing them takes longer than asking a small
build and much less than asking one that loads CUDA, so the hash is kept too, with the stamps of the files it is of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kloros_infra.adapters.generated_folder import write_text_atomically
from kloros_infra.adapters.programs import Program, find_llama_server
from kloros_infra.compiler.llama_server_options import ServerOptions, parse_help
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError

TIMEOUT_S = 20.0
"""A build for CUDA loads some gigabytes of libraries from a cold disk before it says a word."""
_FIRST_WORDS = "-----"


@dataclass(frozen=True, slots=True)
class Help:
    """What `--help` printed, or why nothing is known."""

    text: str | None
    reason: str = ""


def server_options(reference: str) -> ServerOptions:
    """Ask the llama-server that models.yaml names for its options; raise ObstacleError where it cannot be asked."""
    program = find_llama_server(reference)
    answer = read_help(program, cache_folder(os.environ))
    if answer.text is None:
        raise ObstacleError([_no_answer(answer.reason)])
    return parse_help(answer.text)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Say where this user's caches are (XDG Base Directory Specification)."""
    base = environ.get("XDG_CACHE_HOME", "")
    # Relative paths are to be ignored, says the specification.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "kloros-infra" / "llama-server"


def read_help(program: Program, cache: Path, *, timeout_s: float = TIMEOUT_S) -> Help:
    """Give what a program's `--help` prints, from the cache where this build was asked before."""
    try:
        entry = cache / f"{_build(program, cache)}.json"
    except OSError as error:
        return Help(None, f"{program.path} cannot be read ({error.strerror})")
    kept = _read(entry).get("help")
    if isinstance(kept, str) and _is_help(kept):
        return Help(kept)
    answer = _ask(program, timeout_s)
    if answer.text is not None:
        _keep(entry, {"help": answer.text})
    return answer


def _ask(program: Program, timeout_s: float) -> Help:
    try:
        done = subprocess.run(
            [program.path, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=_environment(program),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Help(None, f"{program.path} --help did not end within {timeout_s:g} s")
    except OSError as error:
        return Help(None, f"{program.path} cannot be run ({error.strerror})")
    text = done.stdout.decode("utf-8", errors="replace")
    if done.returncode != 0:
        return Help(None, f"{program.path} --help ended with {done.returncode}")
    return Help(text) if _is_help(text) else Help(None, f"{program.path} --help printed no options of llama-server")


def _environment(program: Program) -> dict[str, str]:
    """Give it no more than it needs to start: neither secrets, nor LLAMA_ARG_* that would change what it does."""
    libraries = {} if program.library_path is None else {"LD_LIBRARY_PATH": program.library_path}
    return {"PATH": os.defpath, "LC_ALL": "C", **libraries}


def _is_help(text: str) -> bool:
    return any(line.startswith(_FIRST_WORDS) for line in text.splitlines()[:20])


def _build(program: Program, cache: Path) -> str:
    """Name a build by the sha256 of its files; read them only where one was written since the last time."""
    files = _files(program)
    stamps = [[str(file), *_stamp(file)] for file in files]
    entry = cache / f"stamps-{hashlib.sha256(program.path.encode()).hexdigest()[:16]}.json"
    kept = _read(entry)
    digest = kept.get("sha256")
    if kept.get("stamps") == stamps and isinstance(digest, str) and digest.isalnum():
        return digest
    digest = _sha256(files)
    _keep(entry, {"stamps": stamps, "sha256": digest})
    return digest


def _files(program: Program) -> tuple[Path, ...]:
    path = Path(program.path).resolve()
    libraries = () if program.library_path is None else Path(program.library_path).glob("libllama*.so*")
    # A wheel has no links: it holds a library once for each of its names.
    return (path, *sorted(libraries))


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _sha256(files: tuple[Path, ...]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def _read(file: Path) -> dict[str, Any]:
    """Read an entry of the cache; one that is missing or broken is as good as none."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(file: Path, entry: dict[str, Any]) -> None:
    # A cache that cannot be written is no problem of the one who asks: the next question is only slower.
    with contextlib.suppress(OSError):
        write_text_atomically(file, json.dumps(entry))


def _no_answer(reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI515",
        summary="llama-server cannot be run",
        detail=f"{reason}.",
        hint="Run it by hand with --help to see why, or name another program in hosts.<name>.llama_server.",
        address="program.llama-server",
    )
