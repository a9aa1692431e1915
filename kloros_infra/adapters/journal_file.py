"""The journal of applies: a folder with one JSON-lines file for each, the newest few kept."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.adapters.synced_files import make_folders, sync_folder
from kloros_infra.ir.generation import Interrupted
from kloros_infra.ir.layout import Layout

JOURNAL_FOLDER = f"{Layout().state}/journal"
KEPT_FILES = 20
READABLE = 0o644
VERSION = 2

Record = dict[str, object]


class JournalFile:
    """Writes each line through to the disk, so that it tells what a killed apply was doing.

    The first line of a file says from which generation to which the apply leads, the last one how it ended.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / JOURNAL_FOLDER
        self._file: Path | None = None

    def begin(self, apply: Mapping[str, object]) -> None:
        """Begin another file."""
        self._file = None
        self._write({"event": "begin", "version": VERSION, **apply})

    def before(self, index: int, step: Mapping[str, object]) -> None:
        self._write({"event": "before", "index": index, "step": step})

    def after(self, index: int, step: Mapping[str, object]) -> None:
        self._write({"event": "after", "index": index, "step": step})

    def undone(self, index: int, step: Mapping[str, object]) -> None:
        self._write({"event": "undone", "index": index, "step": step})

    def finish(self, outcome: str) -> None:
        """End this apply's file; the next line begins another."""
        self._write({"event": "finish", "outcome": outcome})
        self._file = None

    def unfinished(self) -> Interrupted | None:
        """Give where the last apply was when it was killed, None when it finished.

        One that was killed before its first step did nothing: then the one before it counts.
        """
        for file in reversed(self._files()):
            records = _records(file)
            if any(record.get("event") == "finish" for record in records):
                return None
            begun = [record for record in records if record.get("event") == "before" and "step" in record]
            if begun:
                return _interrupted(records[0], begun[-1])
        return None

    def applies(self) -> dict[int, list[Record]]:
        """Give the lines of every apply that is kept, by its number."""
        return {int(file.stem): _records(file) for file in self._files()}

    def _files(self) -> list[Path]:
        return sorted(file for file in self._folder.glob("[0-9]*.jsonl") if file.stem.isdecimal())

    def _write(self, record: Record) -> None:
        is_new = self._file is None
        file = self._file = self._file or self._begin()
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **record})
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, READABLE)
        try:
            if is_new:
                # Whoever asks for the status may read it, whatever the umask.
                os.fchmod(descriptor, READABLE)
            _append(descriptor, f"{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._folder)

    def _begin(self) -> Path:
        """Take the next number, and drop files beyond those that are kept."""
        make_folders(self._folder)
        files = self._files()
        for old in files[: max(0, len(files) - KEPT_FILES + 1)]:
            old.unlink()
        number = int(files[-1].stem) + 1 if files else 1
        return self._folder / f"{number:08}.jsonl"


def _interrupted(head: Record, last: Record) -> Interrupted:
    has_ends = head.get("event") == "begin" and {"previous", "goal"} <= head.keys()
    first = head if has_ends else {}
    return Interrupted(
        step=_text(last["step"]),
        at=str(last.get("at", "")),
        previous=_number(first.get("previous")),
        goal=_number(first.get("goal")),
        has_ends=has_ends,
    )


def _text(step: object) -> str:
    """Name a step; before the second version it was a text."""
    return str(step["text"]) if isinstance(step, dict) and "text" in step else str(step)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _append(descriptor: int, line: bytes) -> None:
    """Write a line whole or not at all: the next one must not continue a part of it."""
    end = os.fstat(descriptor).st_size
    if os.write(descriptor, line) < len(line):
        # write(2): a disk that is nearly full takes a part.
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _records(file: Path) -> list[Record]:
    """Read the lines that are whole; the last one may be cut."""
    records: list[Record] = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
