"""What a process holds on each card, by NVML: through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.gate import FakeCardMemory
from tests.fakes.nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    RTX_3060,
    RTX_5080,
    UUID_3060,
    UUID_5080,
    WITH_PROCESSES,
    FakeNvml,
    compiled,
)
from tests.fakes.nvml_scripted import ScriptedNvml, build

PID = 4711

# The library is chosen when the process starts.
ASK = f"""
import json
from kloros_infra.adapters.nvml_processes import NvmlCardMemory
print(json.dumps(NvmlCardMemory().used_bytes({PID})))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(WITH_PROCESSES, tmp_path_factory.mktemp("nvml"))


def ask(library: Path | None, cards: tuple[str, ...], processes: str) -> dict[str, int] | None:
    told = {"FAKE_NVML": ";".join(cards), "FAKE_NVML_PROCESSES": processes}
    environment = {**os.environ, **told, "LD_LIBRARY_PATH": str(library or "")}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, int] | None = json.loads(done.stdout)
    return found


def test_each_card_says_what_the_process_holds(library: Path) -> None:
    processes = f"0:{PID}:100;0:{PID}:20;0:99:7;1:99:7"
    assert ask(library, (RTX_5080, RTX_3060), processes) == {UUID_5080: 120, UUID_3060: 0}


def test_a_driver_that_is_too_old_to_list_processes_tells_nothing(tmp_path: Path) -> None:
    FakeNvml(tmp_path)
    assert ask(tmp_path, (RTX_3060,), f"0:{PID}:100") is None


def test_a_process_that_nvml_does_not_know_cannot_be_told(library: Path) -> None:
    assert ask(library, (RTX_5080, RTX_3060), "0:99:7") is None
    assert ask(library, (), "") is None


def test_memory_that_the_driver_does_not_count_cannot_be_told(library: Path) -> None:
    assert ask(library, (RTX_5080,), f"0:{PID}:") is None


def test_a_card_that_cannot_be_asked_does_not_hide_the_others(library: Path) -> None:
    assert ask(library, (GPU_IS_LOST, RTX_3060), f"1:{PID}:5") == {UUID_3060: 5}
    assert ask(library, (RTX_5080, RTX_3060), f"0:!4;1:{PID}:5") == {UUID_3060: 5}


def test_a_driver_that_does_not_answer_tells_nothing(library: Path) -> None:
    assert ask(library, (DRIVER_NOT_LOADED,), "") is None


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="this machine has NVIDIA's library")  # noqa: PTH110
def test_a_machine_without_the_library_tells_nothing() -> None:
    assert ask(None, (), "") is None


def test_the_fake_gives_what_it_was_given() -> None:
    assert FakeCardMemory({UUID_3060: 5}).used_bytes(PID) == {UUID_3060: 5}
    assert FakeCardMemory().used_bytes(PID) is None


def test_a_driver_that_does_not_answer_is_waited_for_once(tmp_path: Path) -> None:
    nvml = ScriptedNvml(build(tmp_path), tmp_path)
    nvml.say("hold")
    words = f"""
import time
from kloros_infra.adapters.nvml_processes import NvmlCardMemory
cards, began = NvmlCardMemory(deadline_s=0.2), time.monotonic()
print([cards.used_bytes({PID}) for _ in range(20)], 0.2 <= time.monotonic() - began < 2)
"""
    done = subprocess.run(
        [sys.executable, "-c", words], env=nvml.environment, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == f"{[None] * 20} True\n"
