"""The journal of applies: a folder with one JSON-lines file for each, the newest few kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.ir.generation import Interrupted
from kloros_infra.ir.layout import Layout

JOURNAL_FOLDER = f"{Layout().state}/journal"
KEPT_FILES = 20
VERSION = 2


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
        """Give where the last apply was when it was killed, None when it finished."""
        files = self._files()
        records = _records(files[-1]) if files else []
        if any(record.get("event") == "finish" for record in records):
            return None
        begun = [record for record in records if record.get("event") == "before" and "step" in record]
        if not begun:
            return None
        first = records[0] if records[0].get("event") == "begin" else {}
        return Interrupted(
            step=_text(begun[-1]["step"]),
            at=str(begun[-1].get("at", "")),
            previous=_number(first.get("previous")),
            goal=_number(first.get("goal")),
        )

    def applies(self) -> dict[int, list[dict[str, object]]]:
        """Give the lines of every apply that is kept, by its number."""
        return {int(file.stem): _records(file) for file in self._files()}

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.jsonl"))

    def _write(self, record: dict[str, object]) -> None:
        file = self._file = self._file or self._begin()
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **record})
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(descriptor, f"{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if written <= len(line.encode()):
            # write(2): a disk that is nearly full takes a part.
            raise OSError(28, "No space left on device", str(file))

    def _begin(self) -> Path:
        """Take the next number, and drop files beyond those that are kept."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        files = self._files()
        for old in files[: max(0, len(files) - KEPT_FILES + 1)]:
            old.unlink()
        number = int(files[-1].stem) + 1 if files else 1
        return self._folder / f"{number:08}.jsonl"


def _text(step: object) -> str:
    """Name a step; before the second version it was a text."""
    return str(step["text"]) if isinstance(step, dict) and "text" in step else str(step)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _records(file: Path) -> list[dict[str, object]]:
    """Read the lines that are whole; the last one may be cut."""
    records: list[dict[str, object]] = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
