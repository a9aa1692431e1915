"""Follow what a unit writes, from its last lines on, until interrupted."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import log_file

POLL_S = 0.2


def follow_journal(unit: str, lines: int) -> Iterator[str]:
    """Follow a unit's lines in systemd's journal."""
    command = ("journalctl", "-q", "-f", "-u", unit, "-n", str(lines), "-o", "cat", "--no-pager")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as journal:
        try:
            for line in journal.stdout or ():
                yield line.decode(errors="replace").rstrip("\n")
        finally:
            journal.terminate()


def follow_file(root: Path, unit: str, lines: int) -> Iterator[str]:
    """Follow a unit's file below a root, across its replacement by a new one; it need not be there yet."""
    path = root / Layout().logs / log_file(unit)
    last = lines
    while True:
        log = _opened(path)
        with log:
            if last:
                yield from (_text(line) for line in deque(log, maxlen=last))
            yield from _written(log, path)
        last = 0


def _opened(path: Path) -> BinaryIO:
    while True:
        try:
            return path.open("rb")
        except FileNotFoundError:
            time.sleep(POLL_S)  # the pause between two polls: nobody tells us when a service begins to write


def _written(log: BinaryIO, path: Path) -> Iterator[str]:
    """Give whole lines as they come; end when another file has taken the place of this one."""
    begun = b""
    while True:
        # Asked before the rest is read: what is written until then still belongs to this file.
        is_replaced = _is_replaced(log, path)
        while line := log.readline():
            begun += line
            if begun.endswith(b"\n"):
                yield _text(begun)
                begun = b""
        if is_replaced:
            return
        time.sleep(POLL_S)  # the pause between two polls: nobody tells us when a service writes


def _is_replaced(log: BinaryIO, path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(log.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\n")
