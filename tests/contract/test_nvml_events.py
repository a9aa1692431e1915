"""What the driver reports of cards, through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

from tests.fakes.nvml_scripted import RTX_3060, RTX_5080, ScriptedNvml, build

UUID_5080 = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
UUID_3060 = "GPU-6a2b3c4d-0000-1111-2222-333344445555"
LIMIT_S = 10.0

# The library is chosen when the process starts; each line of cards replaces those that are listened to.
LISTEN = """
import json, sys
from pathlib import Path
from kloros_infra.adapters.nvml_events import NvmlEvents
from kloros_infra.ir.card_facts import DeclaredCard
def told(card, xid):
    print(json.dumps([card, xid]), flush=True)
events = NvmlEvents(told, pause_s=0.05, sysfs=Path(sys.argv[1]), procfs=Path(sys.argv[1]))
for line in sys.stdin:
    events.follow([DeclaredCard(*card) for card in json.loads(line)])
"""
CARDS: list[list[str | None]] = [["rtx5080", None, "0000:01:00.0"], ["rtx3060", UUID_3060, None]]


class Listener:
    """A process that listens, and what it was told."""

    def __init__(self, nvml: ScriptedNvml, sysfs: Path) -> None:
        self._nvml = nvml
        self._told: Queue[list[object]] = Queue()
        command = [sys.executable, "-c", LISTEN, str(sysfs)]
        self._process = subprocess.Popen(
            command, env=nvml.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def follow(self, *cards: list[str | None]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(cards) + "\n")
        self._process.stdin.flush()

    def told(self) -> list[object]:
        return self._told.get(timeout=LIMIT_S)

    def is_quiet(self) -> bool:
        try:
            self._told.get(timeout=0.2)
        except Empty:
            return True
        return False

    def end(self) -> int:
        """End its input: it ends although a thread of it waits for events."""
        assert self._process.stdin
        self._process.stdin.close()
        code = self._process.wait(timeout=20)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout:
            for line in self._process.stdout:
                self._told.put(json.loads(line))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> ScriptedNvml:
    return ScriptedNvml(library, tmp_path)


@pytest.fixture
def listener(nvml: ScriptedNvml, tmp_path: Path) -> Iterator[Listener]:
    started = Listener(nvml, tmp_path)
    yield started
    assert started.end() == 0


def asked_until(nvml: ScriptedNvml, is_enough: Callable[[list[str]], bool]) -> list[str]:
    """Collect what is asked of the library until that is enough."""
    deadline, asked = time.monotonic() + LIMIT_S, nvml.asked()
    while not is_enough(asked):
        assert time.monotonic() < deadline, asked
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        asked += nvml.asked()
    return asked


@pytest.mark.parametrize("attach", [(), ("attach",)], ids=["found", "attached"])
def test_what_is_reported_of_a_declared_card_is_told(
    nvml: ScriptedNvml, listener: Listener, attach: tuple[str, ...]
) -> None:
    """A driver that finds no card which it was told not to attach is asked the usual way."""
    before = (*attach, RTX_5080, RTX_3060, "card uuid=GPU-other pci=0000:09:00.0", f"event card={UUID_5080} xid=48")
    nvml.say(*before)
    listener.follow(*CARDS)
    asked = asked_until(nvml, lambda asked: sum(line.startswith("listen") for line in asked) == 2)
    assert [line for line in asked if line.startswith("open")] == [f"open {UUID_5080}", f"open {UUID_3060}"]
    assert [line for line in asked if line.startswith("init")] == ["init 3", "init 1"][: len(attach) + 1]
    of_another = "event card=GPU-other xid=79"
    nvml.say(*before, of_another, f"event card={UUID_3060} xid=31", f"event card={UUID_5080} xid=79")
    assert listener.told() == ["rtx3060", 31]
    assert listener.told() == ["rtx5080", 79]
    assert listener.is_quiet()


def test_a_card_that_is_no_longer_wanted_is_let_go_of(nvml: ScriptedNvml, listener: Listener) -> None:
    nvml.say(RTX_5080, RTX_3060)
    listener.follow(*CARDS)
    asked_until(nvml, lambda asked: f"listen {UUID_3060}" in asked)
    began = time.monotonic()
    listener.follow(CARDS[1])
    asked = asked_until(nvml, lambda asked: f"listen {UUID_3060}" in asked)
    assert time.monotonic() - began < LIMIT_S / 2
    assert asked.index("shutdown") < asked.index(f"open {UUID_3060}")
    assert f"open {UUID_5080}" not in asked
    listener.follow()
    asked_until(nvml, lambda asked: "shutdown" in asked)


def test_a_card_that_may_sleep_is_not_held_open(nvml: ScriptedNvml, listener: Listener, tmp_path: Path) -> None:
    power = tmp_path / "bus/pci/devices/0000:01:00.0/power"
    power.mkdir(parents=True)
    (power / "control").write_text("auto\n")
    nvml.say(RTX_5080, RTX_3060)
    listener.follow(*CARDS)
    asked = asked_until(nvml, lambda asked: f"listen {UUID_3060}" in asked)
    assert f"open {UUID_5080}" not in asked


def test_cards_that_report_nothing_or_cannot_be_opened_are_tried_again(nvml: ScriptedNvml, listener: Listener) -> None:
    nvml.say(f"{RTX_5080} events=0")
    listener.follow(*CARDS)
    asked = asked_until(nvml, lambda asked: asked.count(f"open {UUID_5080}") > 2)
    assert not [line for line in asked if line.startswith("listen")]
    nvml.say(RTX_5080)
    asked_until(nvml, lambda asked: f"listen {UUID_5080}" in asked)
    nvml.say(RTX_5080, RTX_3060)
    asked_until(nvml, lambda asked: f"listen {UUID_3060}" in asked)
    assert listener.is_quiet()


def test_listening_that_fails_is_begun_anew_once_and_then_told(nvml: ScriptedNvml, listener: Listener) -> None:
    nvml.say(RTX_5080, "deaf 999")
    listener.follow(CARDS[0])
    assert listener.told() == ["rtx5080", None]
    assert [line.split()[0] for line in nvml.asked()][:10].count("listen") >= 2
    nvml.say(RTX_5080)
    asked_until(nvml, lambda asked: f"listen {UUID_5080}" in asked)
    nvml.say(RTX_5080, f"event card={UUID_5080} xid=79")
    assert listener.told() == ["rtx5080", 79]


def test_a_driver_that_comes_later_is_heard_then(nvml: ScriptedNvml, listener: Listener) -> None:
    nvml.say("init 9")
    listener.follow(CARDS[0])
    assert listener.told() == ["rtx5080", None]
    nvml.say(RTX_5080)
    asked_until(nvml, lambda asked: f"listen {UUID_5080}" in asked)
    nvml.say(RTX_5080, f"event card={UUID_5080} xid=13")
    assert listener.told() == ["rtx5080", 13]
