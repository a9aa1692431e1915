"""The agent as a process: `gpu watch` and `gpu reconcile` below a root, with made trees of sysfs and a made driver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread
from typing import Any

import pytest

from kloros_infra.adapters.reconcile_lock import reconcile_lock
from kloros_infra.adapters.run_files import RunFiles
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.layout import Layout
from tests.fakes.agent_world import a_table
from tests.fakes.nvml_scripted import RTX_3060, RTX_5080, ScriptedNvml, build
from tests.integration.conftest import Laptop

LAYOUT = Layout()
UUID_5080 = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
ADDRESSES = {"rtx5080": "0000:01:00.0", "rtx3060": "0000:04:00.0"}
LIMIT_S = 10.0
BUDGET_MS = 300.0


class Site:
    """A root with a routing table, cards that can be pulled, and the commands."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.root, self.sysfs, self.procfs = folder / "root", folder / "sys", folder / "proc"
        self.nvml = ScriptedNvml(library, folder)
        self.procfs.mkdir()
        for card in ADDRESSES:
            self.plug(card)
        self.nvml.say(RTX_5080, RTX_3060)
        self.install(regain_after_s=0.5)
        self.log = folder / "log"

    def install(self, *, regain_after_s: float) -> None:
        """Make a generation the current one, as apply does."""
        generations = self.root / LAYOUT.generations
        number = str(1 + len(list(generations.glob("[0-9]*"))))
        (generations / number).mkdir(parents=True)
        table = a_table(regain_after_s=regain_after_s)
        profile_file = str(self.root / LAYOUT.profile_file)
        text = table.model_copy(update={"profile_file": profile_file}).model_dump_json()
        (generations / number / "routing.json").write_text(text)
        fresh = generations / "fresh"
        fresh.symlink_to(f"generations/{number}")
        fresh.rename(self.root / LAYOUT.current)

    def plug(self, card: str) -> None:
        device = self.sysfs / "bus/pci/devices" / ADDRESSES[card]
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")

    def pull(self, card: str) -> None:
        shutil.rmtree(self.sysfs / "bus/pci/devices" / ADDRESSES[card])

    def forget_and_plug(self, card: str) -> None:
        """Bring a card back, its absence forgotten: else profiles that take it would follow minutes apart."""
        with reconcile_lock(self.root):
            (self.root / LAYOUT.topology_file).unlink()
            self.plug(card)

    def raise_flag(self) -> None:
        RunFiles(self.root).touch(LAYOUT.dirty_file)

    def say(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    @property
    def profile(self) -> str:
        return (RunFiles(self.root).read(LAYOUT.profile_file) or "").strip()

    @property
    def report(self) -> CardsReport:
        return CardsReport.model_validate_json((self.root / LAYOUT.cards_file).read_text())

    def argv(self, *words: str) -> list[str]:
        places = ("--root", str(self.root), "--sysfs", str(self.sysfs), "--procfs", str(self.procfs))
        return [sys.executable, "-m", "kloros_infra", "gpu", *words, *places]

    def reconcile(self) -> subprocess.CompletedProcess[str]:
        words, environment = self.argv("reconcile"), self.nvml.environment
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def switches(self) -> list[str]:
        """Name the profiles that the agent told in its log, in order."""
        words = (line.removeprefix("INFO profile ") for line in self.log.read_text().splitlines())
        return [word.partition(":")[0] for word in words if word.startswith(("max:", "mid:", "cpu_only:"))]


class Agent:
    """`gpu watch`, started and ready."""

    def __init__(self, site: Site) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, site.log.open("a") as log:
            address = f"\0{site.root}"[:100]
            notices.bind(address)
            notices.settimeout(30.0)
            environment = {**site.nvml.environment, "NOTIFY_SOCKET": f"@{address[1:]}"}
            self.process = subprocess.Popen(site.argv("watch"), env=environment, stdout=log, stderr=log)
            try:
                assert notices.recv(100) == b"READY=1"
            except BaseException:
                self.kill()
                raise

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=LIMIT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=LIMIT_S)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def site(tmp_path: Path, library: Path) -> Site:
    return Site(tmp_path, library)


@pytest.fixture
def agent(site: Site) -> Iterator[Agent]:
    started = Agent(site)
    yield started
    if started.process.poll() is None:
        assert started.stop() == 0


Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Print a figure although the test passes."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}\n")

    return write


def until(is_so: Callable[[], Any], *, limit_s: float = LIMIT_S) -> float:
    """Wait until something is so, and give the milliseconds that took."""
    began = time.perf_counter()
    while not is_so():
        assert time.perf_counter() - began < limit_s, "in vain"
        time.sleep(0.0005)  # the pause between two polls of a condition with a deadline
    return (time.perf_counter() - began) * 1000


def test_a_card_that_vanishes_moves_the_profile_and_its_return_waits(site: Site, agent: Agent, show: Show) -> None:
    assert site.profile == "max"
    took_ms = []
    for _ in range(5):
        site.pull("rtx5080")
        site.raise_flag()
        took_ms.append(until(lambda: site.profile == "mid"))
        site.forget_and_plug("rtx5080")
        site.raise_flag()
        until(lambda: site.profile == "max")
    show(f"flag to profile file: {', '.join(f'{one:.1f}' for one in took_ms)} ms")
    assert statistics.median(took_ms) < BUDGET_MS
    site.pull("rtx5080")
    site.raise_flag()
    until(lambda: site.profile == "mid")
    site.plug("rtx5080")
    site.raise_flag()
    waited_ms = until(lambda: site.profile == "max")
    assert waited_ms > 400.0
    assert agent.stop() == 0


def test_wishes_are_followed_from_folders_that_come_later(site: Site, agent: Agent, show: Show) -> None:
    site.say(f"{LAYOUT.lockout_folder}/rtx5080.json", json.dumps({"lockout_gpus": ["rtx5080"], "reason": "gaming"}))
    show(f"lockout to profile file: {until(lambda: site.profile == 'mid'):.1f} ms")
    assert site.report.cards[0].reason == "locked out: gaming"
    site.say(LAYOUT.pin_file, "cpu_only\n")
    until(lambda: site.profile == "cpu_only")
    assert "cpu_only" in site.report.reason
    assert agent.process.poll() is None


def test_what_the_driver_reports_of_a_card_is_followed(site: Site, agent: Agent, show: Show) -> None:
    until(lambda: any(line.startswith("listen") for line in site.nvml.asked()))
    site.nvml.say(RTX_5080, RTX_3060, f"event card={UUID_5080} xid=13", f"event card={UUID_5080} xid=79")
    show(f"XID to profile file: {until(lambda: site.profile == 'mid'):.1f} ms")
    assert site.report.cards[0].state == "quarantined"
    assert "XID 79" in site.report.cards[0].reason
    site.nvml.say(RTX_5080, RTX_3060)
    # The record outlives the agent.
    assert agent.stop() == 0
    assert site.reconcile().returncode == 0
    assert site.profile == "mid"


def test_a_game_that_takes_memory_is_seen_by_looking(site: Site, agent: Agent, show: Show) -> None:
    game = f"process card={UUID_5080} pid={os.getpid()} bytes=9000000000"
    site.nvml.say(f"{RTX_5080} used=9000000000", RTX_3060, game)
    show(f"game to profile file: {until(lambda: site.profile == 'mid'):.1f} ms")
    (holder,) = site.report.cards[0].holders
    assert (holder.pid, site.report.cards[0].foreign_mib) == (os.getpid(), round(9_000_000_000 / 2**20))
    assert agent.process.poll() is None


def test_a_driver_that_hangs_holds_up_no_loss(site: Site, agent: Agent, show: Show) -> None:
    site.nvml.say("hold")
    site.say(LAYOUT.lockout_file, json.dumps({"lockout_gpus": ["rtx5080"]}))
    took_ms = until(lambda: site.profile == "mid")
    show(f"lockout to profile file, the driver hanging: {took_ms:.1f} ms")
    # A look at the cards may just have begun to wait for the driver.
    assert took_ms < LIMIT_S / 2 * 1000
    until(lambda: any(problem.code == "KI905" for problem in site.report.problems))
    assert agent.stop() == 0


def test_three_hundred_flags_in_a_second_give_the_genuine_switches(site: Site, agent: Agent) -> None:
    began = time.monotonic()
    for number in range(300):
        if number == 100:
            site.pull("rtx5080")
        if number == 200:
            site.say(LAYOUT.lockout_file, json.dumps({"lockout_gpus": ["rtx3060"]}))
        site.raise_flag()
        time.sleep(max(0.0, began + number / 300 - time.monotonic()))  # the events are spread over a second
    until(lambda: site.profile == "cpu_only")
    until(lambda: site.switches()[-1:] == ["cpu_only"])
    assert agent.stop() == 0
    # A busy machine may see both cards lost at once.
    assert [one for one in site.switches() if one != "mid"] == ["max", "cpu_only"]
    assert site.switches().count("mid") <= 1


def test_an_agent_that_is_killed_leaves_what_the_next_reconcile_goes_on_from(site: Site) -> None:
    for delay_s in (0.001, 0.004):
        agent = Agent(site)
        site.pull("rtx5080")
        site.raise_flag()
        time.sleep(delay_s)  # somewhere in the middle of a reconcile
        agent.kill()
        done = site.reconcile()
        assert (done.returncode, site.profile, site.report.profile) == (0, "mid", "mid"), done.stderr
        site.forget_and_plug("rtx5080")


def test_reconcile_takes_the_flag_away_and_says_what_is_active(site: Site) -> None:
    site.raise_flag()
    done = site.reconcile()
    assert (done.returncode, done.stdout) == (0, "max: 'max' has its cards rtx5080, rtx3060.\n"), done.stderr
    assert not (site.root / LAYOUT.dirty_file).exists()
    site.pull("rtx5080")
    assert site.reconcile().stdout.startswith("mid, after max: 'mid' has its cards rtx3060; 'max' lacks")
    shutil.rmtree(site.root / LAYOUT.current.rpartition("/")[0])
    done = site.reconcile()
    assert (done.returncode, done.stdout) == (0, "")
    assert "KI906" in done.stderr


def test_a_new_generation_is_followed(site: Site, agent: Agent) -> None:
    site.install(regain_after_s=0.0)
    site.pull("rtx5080")
    site.install(regain_after_s=0.1)
    until(lambda: site.profile == "mid")
    site.plug("rtx5080")
    assert until(lambda: site.profile == "max") < 5000.0
    assert agent.process.poll() is None


class Router(BaseHTTPRequestHandler):
    """A router that counts how often it is told to follow."""

    told: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.told.append(self.path)
        answer = b'{"profile": "max"}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def address_string(self) -> str:
        """A Unix socket has no address to log."""
        return ""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_the_router_is_told(site: Site) -> None:
    Router.told = []
    place = site.root / LAYOUT.control_socket
    place.parent.mkdir(parents=True)
    # unix(7) allows 107 bytes for the path.
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
    with ThreadingUnixStreamServer(f"/proc/self/fd/{folder}/{place.name}", Router) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            for _ in range(2):
                assert site.reconcile().returncode == 0
            site.pull("rtx5080")
            assert site.reconcile().returncode == 0
        finally:
            server.shutdown()
        thread.join()
    os.close(folder)
    assert Router.told == ["/follow", "/follow"]


def with_a_card(document: dict[str, Any]) -> None:
    """Add a profile whose card is nowhere."""
    card = {"host": "laptop", "pci": "0000:fe:1f.7", "vram": "16GiB", "bandwidth": "960GB/s"}
    document["gpus"] = {"rtx5080": card}
    document["profiles"] = {"max": {"gpus": ["rtx5080"]}, **document["profiles"]}


def test_a_plan_says_that_a_profile_without_its_cards_will_not_stay(laptop: Laptop) -> None:
    laptop.edit(with_a_card)
    asked = laptop.run("plan", "--root", laptop.root, "--profile", "max")
    assert "KI910" in asked.stdout + asked.stderr
    assert "The cards allow 'cpu_only' now: 'max' holds until they are looked at next" in asked.stdout + asked.stderr
    allowed = laptop.run("plan", "--root", laptop.root, "--profile", "cpu_only")
    assert "KI910" not in allowed.stdout + allowed.stderr
