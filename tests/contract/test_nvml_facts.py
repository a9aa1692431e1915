"""How cards are used and how they fail, through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml_scripted import RTX_3060, RTX_5080, ScriptedNvml, build

UUID_5080 = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
UUID_3060 = "GPU-6a2b3c4d-0000-1111-2222-333344445555"
DEADLINE_S = 0.3

# The library is chosen when the process starts; each line of cards is a question to the same object.
ASK = """
import dataclasses, json, sys, time
from pathlib import Path
from kloros_infra.adapters.nvml_facts import NvmlFacts
from kloros_infra.ir.card_facts import DeclaredCard
deadline_s, sysfs, procfs = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
facts = NvmlFacts(deadline_s=deadline_s, sysfs=sysfs, procfs=procfs, epoch=lambda: 5.0)
for line in sys.stdin:
    began = time.monotonic()
    reading = dataclasses.asdict(facts.read([DeclaredCard(*card) for card in json.loads(line)]))
    print(json.dumps({**reading, "took_s": time.monotonic() - began}), flush=True)
"""
CARDS: list[list[str | None]] = [["rtx5080", None, "0000:01:00.0"], ["rtx3060", UUID_3060, None]]


class Asker:
    """A process that has the library open."""

    def __init__(self, nvml: ScriptedNvml, folder: Path, deadline_s: float) -> None:
        self.sysfs, self.procfs = folder / "sys", folder / "proc"
        command = [sys.executable, "-c", ASK, str(deadline_s), str(self.sysfs), str(self.procfs)]
        self._process = subprocess.Popen(
            command, env=nvml.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, *cards: list[str | None]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(cards or CARDS) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def device(self, address: str) -> Path:
        folder = self.sysfs / "bus" / "pci" / "devices" / address
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def thread_count(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def end(self) -> int:
        self._process.communicate(timeout=20)
        return self._process.returncode


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> ScriptedNvml:
    return ScriptedNvml(library, tmp_path)


@pytest.fixture
def asker(nvml: ScriptedNvml, tmp_path: Path) -> Iterator[Asker]:
    started = Asker(nvml, tmp_path, 20.0)
    yield started
    assert started.end() == 0


def test_each_card_says_what_is_in_use_and_by_whom(nvml: ScriptedNvml, asker: Asker) -> None:
    nvml.say(
        f"{RTX_5080} used=6000 reserved=300 mig=0",
        f"{RTX_3060} used=70",
        f"process card={UUID_5080} pid=42 bytes=5000 name=/opt/llama.cpp/llama-server",
        f"process card={UUID_5080} pid=42 bytes=10 name=/opt/llama.cpp/llama-server",
        f"drawing card={UUID_5080} pid=42 bytes=5010",
        f"drawing card={UUID_5080} pid=7 bytes=600 name=game.exe",
        f"drawing card={UUID_3060} pid=3 name=Xorg",
    )
    found = asker.read()
    rtx_3060, rtx_5080 = found["cards"]
    assert rtx_3060 == {
        "card": "rtx3060",
        "uuid": UUID_3060,
        "pci": "0000:04:00.0",
        "total_bytes": 12_000_000_000,
        "used_bytes": 70,
        "processes": [{"pid": 3, "name": "Xorg", "held_bytes": None}],
        "faults": [],
        "obstacle": "",
    }
    assert (rtx_5080["uuid"], rtx_5080["pci"], rtx_5080["total_bytes"]) == (UUID_5080, "0000:01:00.0", 17_000_000_000)
    # What the driver keeps for itself is not in use by anybody.
    assert rtx_5080["used_bytes"] == 6000
    assert rtx_5080["processes"] == [
        {"pid": 7, "name": "game.exe", "held_bytes": 600},
        {"pid": 42, "name": "llama-server", "held_bytes": 5010},
    ]
    assert (found["trouble"], found["is_stale"], found["problems"]) == ("", False, [])


def test_cards_come_and_go_and_change_while_it_runs(nvml: ScriptedNvml, asker: Asker) -> None:
    def used() -> dict[str, Any]:
        return {card["card"]: (card["used_bytes"], card["obstacle"]) for card in asker.read()["cards"]}

    nvml.say(f"{RTX_5080} used=1", f"{RTX_3060} used=2")
    assert used() == {"rtx5080": (1, ""), "rtx3060": (2, "")}
    nvml.say(f"{RTX_3060} used=3")
    assert used() == {"rtx5080": (None, "the driver does not know it"), "rtx3060": (3, "")}
    nvml.say(f"{RTX_3060} used=3", f"{RTX_5080} used=4")
    assert used() == {"rtx5080": (4, ""), "rtx3060": (3, "")}
    nvml.say()
    assert used() == dict.fromkeys(("rtx5080", "rtx3060"), (None, "the driver does not know it"))


def test_no_card_is_opened_that_is_not_declared(nvml: ScriptedNvml, asker: Asker) -> None:
    nvml.say(f"{RTX_5080} used=1", f"{RTX_3060} used=2")
    assert [card["card"] for card in asker.read(["rtx3060", UUID_3060, "0000:04:00.0"])["cards"]] == ["rtx3060"]
    # 3: no error without cards, and none attached.
    assert nvml.asked() == ["init 3", f"open {UUID_3060}", "shutdown"]


def test_a_driver_that_finds_no_card_without_attaching_it_may_attach_those_that_are_asked_for(
    nvml: ScriptedNvml, asker: Asker
) -> None:
    (asker.device("0000:04:00.0") / "driver").symlink_to("../../drivers/nvidia")
    nvml.say("attach", f"{RTX_5080} used=1", f"{RTX_3060} used=2")
    card = ["rtx3060", None, "0000:04:00.0"]
    assert asker.read(card)["cards"][0]["used_bytes"] == 2
    assert nvml.asked() == ["init 3", "shutdown", "init 1", f"open {UUID_3060}", "shutdown"]
    assert asker.read(card)["cards"][0]["used_bytes"] == 2
    assert nvml.asked() == ["init 1", f"open {UUID_3060}", "shutdown"]


def test_a_card_known_by_uuid_is_opened_where_the_driver_says_it_is(nvml: ScriptedNvml, asker: Asker) -> None:
    folder = asker.procfs / "driver" / "nvidia" / "gpus" / "0000:04:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"Model: \t NVIDIA GeForce RTX 3060\nGPU UUID: \t {UUID_3060}\n")
    power = asker.device("0000:04:00.0") / "power"
    power.mkdir()
    (power / "runtime_status").write_text("suspended\n")
    nvml.say(f"{RTX_3060} used=2")
    # It sleeps: nobody uses it, and asking would wake it.
    assert asker.read(["rtx3060", UUID_3060, None])["cards"][0]["used_bytes"] == 0
    assert nvml.asked() == []
    (power / "runtime_status").write_text("active\n")
    assert asker.read(["rtx3060", UUID_3060, None])["cards"][0]["used_bytes"] == 2


def test_a_card_that_was_put_elsewhere_is_found_by_uuid(nvml: ScriptedNvml, asker: Asker) -> None:
    nvml.say(f"{RTX_5080} used=1", f"{RTX_3060} used=2")
    for address in ("0000:01:00.0", "0000:09:00.0"):
        (found,) = asker.read(["rtx3060", UUID_3060, address])["cards"]
        assert (found["used_bytes"], found["pci"]) == (2, "0000:04:00.0")
    assert asker.read(["nameless", None, None])["cards"][0]["obstacle"] == "the driver does not know it"


@pytest.mark.parametrize(("error", "kind"), [(15, "lost"), (16, "reset_required")])
def test_a_card_that_has_failed_says_so_and_does_not_hide_the_others(
    nvml: ScriptedNvml, asker: Asker, error: int, kind: str
) -> None:
    nvml.say(f"{RTX_5080} error={error}", f"{RTX_3060} used=2")
    other, failed = asker.read()["cards"]
    assert failed["faults"] == [{"kind": kind, "since_epoch_s": 5.0, "xid": None, "is_lasting": True}]
    assert (failed["used_bytes"], other["used_bytes"]) == (None, 2)
    nvml.say(f"{RTX_5080} used=1", f"{RTX_3060} used=2")
    assert [card["faults"] for card in asker.read()["cards"]] == [[], []]


@pytest.mark.parametrize("error", [4, 10, 999])
def test_a_card_that_cannot_be_asked_has_not_failed_by_that(nvml: ScriptedNvml, asker: Asker, error: int) -> None:
    nvml.say(f"{RTX_5080} error={error}", f"{RTX_3060} used=2")
    card = asker.read()["cards"][1]
    assert (card["faults"], card["used_bytes"]) == ([], None)
    assert card["obstacle"]


def test_what_a_card_does_not_tell_is_not_known(nvml: ScriptedNvml, asker: Asker) -> None:
    nvml.say(f"{RTX_5080} used=1 mig=1", RTX_3060.partition(" total")[0])
    other, divided = asker.read()["cards"]
    assert (divided["used_bytes"], divided["obstacle"]) == (None, "it is divided into MIG devices")
    assert (other["used_bytes"], other["uuid"]) == (None, UUID_3060)
    assert "does not say" in other["obstacle"]


def test_a_process_whose_name_nvml_does_not_know_has_that_of_the_kernel(nvml: ScriptedNvml, asker: Asker) -> None:
    (asker.procfs / "7").mkdir(parents=True)
    (asker.procfs / "7" / "comm").write_text("a\x1b[31mgame\n")
    process = f"process card={UUID_3060} bytes=1"
    nvml.say(f"{RTX_3060} used=9", f"{process} pid=7", f"{process} pid=8", f"{process} pid=9 name=\udcff\udcfe")
    (card,) = asker.read(["rtx3060", UUID_3060, None])["cards"]
    assert [one["name"] for one in card["processes"]] == ["a\N{REPLACEMENT CHARACTER}[31mgame", "unknown", "unknown"]


@pytest.mark.parametrize(("error", "words"), [(9, "Driver Not Loaded"), (18, "version mismatch"), (10, "timeout")])
def test_a_driver_that_does_not_answer_is_told(nvml: ScriptedNvml, asker: Asker, error: int, words: str) -> None:
    nvml.say(f"init {error}", f"{RTX_3060} used=2")
    found = asker.read()
    assert (found["cards"], [problem["code"] for problem in found["problems"]]) == ([], ["KI561"])
    assert words.lower() in found["trouble"].lower()
    nvml.say(f"{RTX_3060} used=2")
    assert asker.read()["cards"][0]["used_bytes"] == 2


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="this machine has NVIDIA's library")  # noqa: PTH110
def test_a_machine_without_the_library_is_no_problem(tmp_path: Path) -> None:
    asker = Asker(ScriptedNvml(tmp_path / "nowhere", tmp_path), tmp_path, 20.0)
    found = asker.read()
    assert (found["cards"], found["problems"], found["trouble"]) == ([], [], "there is no NVIDIA driver")
    assert asker.end() == 0


def test_a_driver_that_hangs_does_not_hold_up_whoever_asks(nvml: ScriptedNvml, tmp_path: Path) -> None:
    asker = Asker(nvml, tmp_path, DEADLINE_S)
    nvml.say(f"{RTX_3060} used=2")
    # The first answer may take a while on a busy machine.
    assert wait_for(asker)["cards"][0]["used_bytes"] == 2
    nvml.say("hold")
    for _ in range(2):
        found = asker.read()
        assert found["took_s"] < DEADLINE_S + 10
        assert found["is_stale"]
        assert [problem["code"] for problem in found["problems"]] == ["KI905"]
        # What it said before is still told.
        assert found["cards"][0]["used_bytes"] == 2
    # However often it is asked, one thread waits for it; and what it then says is of now.
    assert asker.thread_count() == 2
    nvml.say(f"{RTX_3060} used=4")
    found = wait_for(asker)
    assert (found["cards"][0]["used_bytes"], found["problems"]) == (4, [])
    nvml.say("hold")
    assert asker.read()["is_stale"]
    # A thread that waits in the driver does not keep the process from ending.
    assert asker.end() == 0


def wait_for(asker: Asker) -> dict[str, Any]:
    """Ask until there is an answer."""
    deadline = time.monotonic() + 20
    while (found := asker.read())["is_stale"]:
        assert time.monotonic() < deadline
    return found
