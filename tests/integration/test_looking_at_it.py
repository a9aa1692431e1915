"""What a person asks of an installation: status, logs, events; and what an administrator did to it by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only

pytestmark = pytest.mark.real_model

UNIT = "llama@smollm2-cpu_only.service"
MASK = f"etc/systemd/system/{UNIT}"


def status(laptop: Laptop) -> dict[str, Any]:
    shown = kloros_infra("status", "--root", laptop.root, "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def unit(laptop: Laptop, name: str = UNIT) -> dict[str, Any]:
    (found,) = (one for one in status(laptop)["units"] if one["unit"] == name)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def running(laptop: Laptop) -> Laptop:
    laptop.edit(only(SMOLLM2))
    done = laptop.apply()
    assert done.returncode == 0, done.stderr
    return laptop


def stop_by_hand(laptop: Laptop) -> None:
    """End the server as a person may: it ends well, so nobody starts it again."""
    os.kill(unit(laptop)["main_pid"], signal.SIGTERM)
    deadline = time.monotonic() + 20
    while unit(laptop)["main_pid"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline


def test_status_is_a_table_of_what_runs(running: Laptop) -> None:
    shown = kloros_infra("status", "--root", running.root).stdout.splitlines()
    assert shown[0] == "Generation 1, profile cpu_only."
    header, *rows = (line.split() for line in shown[1:])
    assert header[:6] == ["NAME", "PROFILE", "STATE", "PID", "VRAM", "CONTEXT"]
    assert {row[0]: row[1:3] for row in rows} == {
        "bus": ["-", "ready"],
        "smollm2": ["cpu_only", "ready"],
        "router": ["-", "ready"],
    }
    found = unit(running)
    assert (found["is_on_cpu"], found["cards"], found["until"]) == (True, [], "always")
    assert found["context_tokens"] > 0
    assert (found["requests"], found["slots"]) == (0, found["slots"])


def test_nothing_installed_is_said(tmp_path: Path) -> None:
    shown = kloros_infra("status", "--root", tmp_path)
    assert (shown.returncode, shown.stdout) == (0, "Nothing is installed here.\n")
    assert kloros_infra("events", "--root", tmp_path).stdout == ""


def test_what_was_stopped_by_hand_stays_so_until_pins_are_reset(running: Laptop) -> None:
    stop_by_hand(running)
    assert unit(running)["state"] == "stopped by hand"
    again = running.apply()
    assert again.returncode == 0, again.stderr
    assert "stopped by hand" in again.stdout
    assert unit(running)["state"] == "stopped by hand"
    reset = running.apply("--reset-pins")
    assert reset.returncode == 0, reset.stderr
    assert unit(running)["state"] == "ready"


def test_what_is_masked_is_not_started(running: Laptop) -> None:
    stop_by_hand(running)
    mask = running.root / MASK
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.symlink_to("/dev/null")
    masked = running.apply("--reset-pins")
    assert masked.returncode == 0, masked.stderr
    assert "masked" in masked.stdout
    assert unit(running)["state"] == "masked"
    mask.unlink()
    assert running.apply("--reset-pins").returncode == 0
    assert unit(running)["state"] == "ready"


def test_a_foreign_file_is_refused_until_it_is_adopted(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    foreign = laptop.root / MASK
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    refused = laptop.apply()
    assert refused.returncode == 1
    assert "KI501" in refused.stderr
    assert f"kloros-infra adopt /{MASK}" in refused.stderr
    root = ("--root", laptop.root)
    unknown = laptop.run("adopt", f"/{MASK}.bak", *root, "--yes")
    assert unknown.returncode == 1
    assert "KI583" in unknown.stderr
    assert f"/{MASK}" in unknown.stderr
    adopted = laptop.run("adopt", f"/{MASK}", *root, "--yes")
    assert adopted.returncode == 0, adopted.stderr
    assert foreign.exists()
    applied = laptop.apply()
    assert applied.returncode == 0, applied.stderr
    assert not foreign.exists()
    assert unit(laptop)["state"] == "ready"


def test_logs_are_shown_and_followed(running: Laptop) -> None:
    root = ("--root", running.root)
    assert len(kloros_infra("logs", "smollm2-cpu_only", *root, "-n", "5").stdout.splitlines()) == 5
    assert kloros_infra("logs", "router", *root).returncode == 0
    unknown = kloros_infra("logs", "smolm2-cpu_only", *root)
    assert unknown.returncode == 1
    assert "KI524" in unknown.stderr
    assert "smollm2-cpu_only" in unknown.stderr
    argv = [sys.executable, "-m", "kloros_infra", "logs", "smollm2-cpu_only", *map(str, root), "-f", "-n", "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        with (running.root / "var/log/kloros-infra" / f"{UNIT}.log").open("a") as log:
            log.write("from now on\n")
        assert any("from now on" in line for line in follower.stdout)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 0


def test_events_tell_what_applies_and_the_supervisor_did(running: Laptop) -> None:
    shown = kloros_infra("events", "--root", running.root, "--json", "-n", "1000")
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    texts = [event["text"] for event in events if event["source"] == "apply 1"]
    assert texts[0] == "began: from no generation to generation 1"
    assert "switch to generation 1" in texts
    assert texts[-1] == "ended: applied"
    assert any(UNIT in event["text"] for event in events if event["source"] == "supervisor")
    last = kloros_infra("events", "--root", running.root, "-n", "1").stdout.splitlines()
    assert len(last) == 1
