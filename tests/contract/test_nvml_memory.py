"""What is in use of each card, by NVML: through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.adapters.nvml_memory import NvmlCards
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

# The library is chosen when the process starts.
ASK = """
import json, sys
from pathlib import Path
from kloros_infra.adapters.nvml_memory import NvmlCards
print(json.dumps(NvmlCards(Path(sys.argv[1])).read()))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(WITH_PROCESSES, tmp_path_factory.mktemp("nvml"))


def ask(library: Path, cards: tuple[str, ...], processes: str = "", *, driver: Path = Path("nowhere")) -> Any:
    told = {"FAKE_NVML": ";".join(cards), "FAKE_NVML_PROCESSES": processes, "LD_LIBRARY_PATH": str(library)}
    command = [sys.executable, "-c", ASK, str(driver)]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def used(card: str, number: int) -> str:
    return f"{card}|{number}"


def test_each_card_says_what_is_in_use_and_by_whom(library: Path) -> None:
    cards = (used(RTX_5080, 5000), used(RTX_3060, 70))
    assert ask(library, cards, "0:4711:100;0:4711:20;0:99:7;0:98:;1:99:8") == [
        [UUID_5080, "0000:01:00.0", 16303 * 2**20, 5000, {"4711": 120, "99": 7}],
        [UUID_3060, "0000:04:00.0", 12 * 2**30, 70, {"99": 8}],
    ]


def test_a_driver_that_is_too_old_to_list_processes_still_says_what_is_in_use(tmp_path: Path) -> None:
    FakeNvml(tmp_path)
    assert ask(tmp_path, (used(RTX_3060, 70),), "0:4711:100") == [[UUID_3060, "0000:04:00.0", 12 * 2**30, 70, {}]]


def test_a_card_that_cannot_be_asked_does_not_hide_the_others(library: Path) -> None:
    assert [card[0] for card in ask(library, (GPU_IS_LOST, RTX_3060))] == [UUID_3060]
    assert [card[0] for card in ask(library, (RTX_5080, RTX_3060), "0:!4")] == [UUID_3060]


def test_a_driver_that_does_not_answer_tells_nothing(library: Path) -> None:
    assert ask(library, (DRIVER_NOT_LOADED,)) is None


def test_cards_that_all_sleep_are_not_woken(library: Path, tmp_path: Path) -> None:
    for name, status in (("0000:01:00.0", "suspended"), ("0000:04:00.0", "suspended")):
        power = tmp_path / name / "power"
        power.mkdir(parents=True)
        (power / "runtime_status").write_text(f"{status}\n")
    assert ask(library, (RTX_5080,), driver=tmp_path) == []
    (tmp_path / "0000:01:00.0" / "power" / "runtime_status").write_text("active\n")
    assert [card[0] for card in ask(library, (RTX_5080,), driver=tmp_path)] == [UUID_5080]


def test_a_family_is_a_process_and_all_that_come_of_it() -> None:
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['cat'], stdin=sys.stdin)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        while not (grandchild := children.read_text().split()):
            assert child.poll() is None
        family = NvmlCards().family(child.pid)
        child.communicate(timeout=10)
    assert family == {child.pid, int(grandchild[0])}
    assert NvmlCards().family(child.pid) == {child.pid}
