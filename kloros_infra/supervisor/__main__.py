"""Run the embedded supervisor as `python -m kloros_infra.supervisor --root DIR`.

The command line proper has a sub-command for it; this door imports neither the other sub-commands nor the compiler.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from kloros_infra.errors import KlorosError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import log_file
from kloros_infra.supervisor.server import run_supervisor
from kloros_infra.supervisor.service_log import UMASK, open_log

READY = b"ready"


def main(arguments: list[str]) -> int:
    """Run in the foreground, or detach and return once requests are taken."""
    parser = argparse.ArgumentParser(prog="kloros_infra.supervisor", description="Run the units below a folder.")
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the installation")
    parser.add_argument("--detach", action="store_true", help="return as soon as it is ready, and go on behind")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return run_detached(options.root) if options.detach else run_supervisor(options.root)
    except KlorosError as error:
        sys.stderr.write("".join(f"{p.code} {p.summary}: {p.detail} {p.hint}\n" for p in error.problems))
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def run_detached(root: Path) -> int:
    """Fork: the child serves in a session of its own, the parent says how its start went.

    What goes wrong before the child is ready still goes to the caller's stderr, later messages to the log.
    """
    os.umask(UMASK)
    log = open_log(root.resolve() / Layout().logs / log_file("supervisor"), is_first=True)
    ready, announce = os.pipe()
    if os.fork():
        os.close(announce)
        with os.fdopen(ready, "rb") as pipe:
            return 0 if pipe.read() == READY else 1
    os.close(ready)
    os.setsid()

    def leave_caller() -> None:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.chdir("/")
        os.write(announce, READY)
        os.close(announce)

    return run_supervisor(root, on_ready=leave_caller)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
