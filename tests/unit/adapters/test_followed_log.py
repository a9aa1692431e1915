"""Following what a unit writes: from its last lines on, line by line, into the next file, and until nobody listens."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import pytest

from kloros_infra.adapters.followed_log import follow_file, follow_journal
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import log_file

UNIT = "a.service"
WAIT_S = 10.0


class Follower:
    """Asks for a line in a thread that ends with it: one that went on would meet what later tests do to the process."""

    def __init__(self, root: Path, lines: int) -> None:
        self._found = follow_file(root, UNIT, lines)

    def asked(self) -> queue.SimpleQueue[str]:
        """Ask for the next line; it is put here when it comes."""
        line: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=lambda: line.put(next(self._found)), daemon=True).start()
        return line

    def next(self) -> str:
        return self.asked().get(timeout=WAIT_S)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / Layout().logs / log_file(UNIT)
    file.parent.mkdir(parents=True)
    return file


def append(file: Path, text: str) -> None:
    with file.open("a") as stream:
        stream.write(text)


def test_the_last_lines_come_first_and_then_what_is_written(tmp_path: Path, log: Path) -> None:
    append(log, "one\ntwo\nthree\n")
    follower = Follower(tmp_path, 2)
    assert [follower.next(), follower.next()] == ["two", "three"]
    append(log, "fo")
    append(log, "ur\n\x1b\n")
    assert [follower.next(), follower.next()] == ["four", "\x1b"]


def test_a_file_that_is_replaced_is_followed_into_the_next_one(tmp_path: Path, log: Path) -> None:
    append(log, "one\n")
    follower = Follower(tmp_path, 5)
    assert follower.next() == "one"
    append(log, "two\n")
    log.rename(log.with_suffix(".log.1"))
    append(log, "three\n")
    assert [follower.next(), follower.next()] == ["two", "three"]


def test_a_unit_that_writes_later_is_waited_for(tmp_path: Path, log: Path) -> None:
    line = Follower(tmp_path, 5).asked()
    append(log, "at last\n")
    assert line.get(timeout=WAIT_S) == "at last"


def test_the_journal_is_followed_until_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\necho $$ > {tmp_path}/pid\nprintf "%s\\n" "$*" "$(printf "\\377")"\nexec sleep 1000\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = follow_journal(UNIT, 3)
    assert next(found).split()[:4] == ["-q", "-f", "-u", UNIT]
    assert next(found) == "\N{REPLACEMENT CHARACTER}"
    pid = int((tmp_path / "pid").read_text())
    found.close()  # type: ignore[attr-defined]  # it is a generator, as every caller but this one need not know
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
