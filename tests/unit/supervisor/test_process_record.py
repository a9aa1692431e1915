"""What is left of a killed supervisor is ended, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros_infra.supervisor.process_record import BOOT_ID, end_leftovers, read_record, start_ticks, write_record


@pytest.fixture
def leftover() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"], process_group=0)
    yield process
    process.kill()
    process.wait()


def test_recorded_processes_are_ended(tmp_path: Path, leftover: subprocess.Popen[bytes]) -> None:
    record = tmp_path / "children.json"
    write_record(record, {leftover.pid: leftover.pid})
    assert [process.pid for process in read_record(record)] == [leftover.pid]
    assert end_leftovers(record) == 1
    assert leftover.wait(timeout=5) == -9
    assert end_leftovers(record) == 0


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_a_number_that_was_used_again_is_left_alone(
    tmp_path: Path, leftover: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    process = {"pid": leftover.pid, "start_ticks": start_ticks(leftover.pid), "group": leftover.pid}
    boot = {"boot_id": change.get("boot_id", BOOT_ID.read_text().strip())}
    record = tmp_path / "children.json"
    changed = {name: value for name, value in change.items() if name in process}
    record.write_text(json.dumps({**boot, "processes": [{**process, **changed}]}))
    assert end_leftovers(record) == 0
    assert leftover.poll() is None


@pytest.mark.parametrize("text", ["", "{", '{"boot_id": 1}', '{"boot_id": "x", "processes": [{"pid": -1}]}'])
def test_a_torn_record_is_no_record(tmp_path: Path, text: str) -> None:
    record = tmp_path / "children.json"
    record.write_text(text)
    assert read_record(record) == ()


def test_without_a_record_there_is_nothing_to_end(tmp_path: Path) -> None:
    assert end_leftovers(tmp_path / "absent.json") == 0


def test_a_start_time_is_known_while_a_process_lives(leftover: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(leftover.pid)
    assert ticks is not None
    assert ticks >= (start_ticks(os.getpid()) or 0)
    leftover.kill()
    leftover.wait()
    assert start_ticks(leftover.pid) is None
