"""Measure how fast the installation reacts to cards.

What is timed: the flag stands; the decision is written with its reasons, and then the profile; the router has moved its
routes; the profile's target is active; subscribers of `llm.gpu_profile` have heard of it.

In a container with a real systemd and a real systemd-udevd, two PCI devices of this machine stand in for NVIDIA cards,
with a scripted NVML; bus, router, agent and llama-servers are real. Each event takes one of two cards, with and
without the resident agent. Prints a Markdown table of milliseconds since the event:

    python -m benchmarks.gpu_reaction [--times 20]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from asyncinotify import Inotify, Mask

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import AGENT_UNIT, DIRTY_UNIT, PROFILE_UNIT, ROUTER_UNIT, profile_target
from tests.system.card_site import BEST, LESS, CardSite, Ear, a_card_site, ear_on
from tests.system.cards import build_drivers, pretended_cards
from tests.system.conftest import CHECKOUT, INSIDE_CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import booted, install_project

LAYOUT: Final = Layout()
FLAG, DECISION, PROFILE, ROUTE, TARGET, BUS = STAGES = ("flag", "decision", "profile file", "route", "target", "bus")
SEEN: Final = {LAYOUT.dirty_file: FLAG, LAYOUT.cards_file: DECISION, LAYOUT.profile_file: PROFILE}
REACTED_S = 10.0
CALM_S = 0.3
GAME_MIB = 8000
FATAL_XID = 79

Found = TypeVar("Found")


def polled(look: Callable[[], Found], otherwise: str) -> Found:
    """Give what is found once that is something; raise AssertionError where it stays nothing."""
    deadline = time.monotonic() + REACTED_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline
    return found


class Eye:
    """Sees when files in /run/kloros are written, as the kernel tells it (inotify(7))."""

    def __init__(self, folder: Path) -> None:
        self._inotify = Inotify(sync_timeout=0.05)
        self._inotify.add_watch(folder, Mask.CREATE | Mask.MOVED_TO | Mask.ATTRIB | Mask.CLOSE_WRITE)
        self._names = {Path(path).name: stage for path, stage in SEEN.items()}
        self._seen: list[tuple[str, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def reaction(self, event_at: float) -> dict[str, float]:
        """Give how long after an event the profile was written, and what led there."""
        profile_s = polled(lambda: self._since(event_at, PROFILE), "the profile is not written")[0]
        decided = [after_s for after_s in self._since(event_at, DECISION) if after_s <= profile_s]
        if not decided:
            raise AssertionError("the decision is not written before the profile")
        decision_s = decided[-1]
        # Who had seen it by himself decided before the flag stood.
        flag = self._since(event_at, FLAG)
        told = {FLAG: flag[0]} if flag and flag[0] <= decision_s else {}
        return {**told, DECISION: decision_s, PROFILE: profile_s}

    def _since(self, event_at: float, stage: str) -> list[float]:
        return [at - event_at for seen, at in tuple(self._seen) if seen == stage and at >= event_at]

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._inotify.close()

    def _look(self) -> None:
        while not self._is_over.is_set():
            event = self._inotify.sync_get()
            if event is not None and event.name is not None and event.name.name in self._names:
                self._seen.append((self._names[event.name.name], time.monotonic()))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that takes the gaming card; `happen` gives its time."""

    name: str
    happen: Callable[[CardSite], float]
    needs_agent: bool = False


def card_vanishes(site: CardSite) -> float:
    return site.cards.go(site.cards.gaming)


def file_is_written(site: CardSite) -> float:
    begun = time.monotonic()
    site.lock_out("game")
    return begun


def card_is_locked(site: CardSite) -> float:
    """Start the command, which ends once its effect is reported."""
    words = ("gpu", "lock", "rtx5080", "--until", "2h", "--reason", "gaming")
    begun = time.monotonic()
    threading.Thread(target=site.kloros_infra, args=words).start()
    return begun


def driver_reports_a_fault(site: CardSite) -> float:
    begun = time.monotonic()
    site.cards.report_fault(site.cards.gaming, FATAL_XID)
    return begun


def game_takes_memory(site: CardSite) -> float:
    begun = time.monotonic()
    site.game_takes(GAME_MIB, pid=1)
    return begun


def timer_finds_it_gone(site: CardSite) -> float:
    """Do what the timer does each minute, where no event has told of it."""
    site.cards.take_away(site.cards.gaming)
    begun = time.monotonic()
    site.container.run(["systemctl", "start", "--no-block", DIRTY_UNIT])
    return begun


def machine_boots(site: CardSite) -> float:
    """Choose the profile as at boot, when /run is empty."""
    site.container.run(["systemctl", "stop", PROFILE_UNIT])
    # No machine boots so often that systemd would refuse to start it again (systemd.unit(5), StartLimitBurst=).
    site.container.run(["systemctl", "reset-failed", PROFILE_UNIT])
    site.cards.take_away(site.cards.gaming)
    for path in (LAYOUT.topology_file, LAYOUT.cards_file):
        site.path(path).unlink(missing_ok=True)
    begun = time.monotonic()
    site.container.run(["systemctl", "start", "--no-block", PROFILE_UNIT])
    return begun


EVENTS: Final = (
    Event("udev: the card vanishes", card_vanishes),
    Event("a lockout file is written", file_is_written),
    Event("`gpu lock`, from its start", card_is_locked),
    Event("NVML reports an XID", driver_reports_a_fault, needs_agent=True),
    Event("a game takes 8 GB, held 2 s", game_takes_memory, needs_agent=True),
    Event("the timer finds the card gone", timer_finds_it_gone),
    Event("boot, from the start of its service", machine_boots),
)


@dataclass(slots=True)
class Row:
    """The times of one event, by stage."""

    name: str
    times_s: dict[str, list[float]] = field(default_factory=dict)

    def add(self, reaction: dict[str, float]) -> None:
        for stage, took_s in reaction.items():
            self.times_s.setdefault(stage, []).append(took_s)

    def text(self, way: str) -> str:
        return f"| {self.name} | {way} | {' | '.join(self._cell(stage) for stage in STAGES)} |"

    def _cell(self, stage: str) -> str:
        times = sorted(self.times_s.get(stage, ()))
        return f"{_share(times, 0.5) * 1000:.0f} / {_share(times, 0.95) * 1000:.0f}" if times else "–"


def _share(ordered: Sequence[float], share: float) -> float:
    """Give the value that a share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def measure(site: CardSite, ear: Ear, eye: Eye, event: Event) -> dict[str, float]:
    """Let an event happen once; give the time of each stage, and bring everything back."""
    event_at = event.happen(site)
    bus_s = ear.when_says(LESS, timeout_s=REACTED_S) - event_at
    moved_at = {ROUTE: route_moved_at(site, LESS, event_at), TARGET: target_active_at(site, LESS)}
    reaction = {**eye.reaction(event_at), BUS: bus_s, **{stage: at - event_at for stage, at in moved_at.items()}}
    bring_back(site, ear)
    return reaction


def route_moved_at(site: CardSite, profile: str, event_at: float) -> float:
    """Say when the router took a profile up, as it logged it; on the monotonic clock."""
    command = ["journalctl", "-q", "-b", "-u", ROUTER_UNIT, "-n", "100", "-o", "json"]
    begins = f"profile {profile} is active"

    def since() -> list[float]:
        lines = map(json.loads, site.container.run(command).stdout.splitlines())
        times = (int(line["__MONOTONIC_TIMESTAMP"]) / 1e6 for line in lines if begins in str(line["MESSAGE"]))
        return [at for at in times if at >= event_at]

    return polled(since, f"the router does not log that {begins}")[0]


def target_active_at(site: CardSite, profile: str) -> float:
    """Say when the profile's target was active, on the monotonic clock."""
    target = profile_target(profile)
    polled(lambda: site.is_active(target), f"{target} is not active")
    return int(site.show(target, "ActiveEnterTimestampMonotonic")) / 1e6


def bring_back(site: CardSite, ear: Ear) -> None:
    """Have everything as before the event, and the machine idle."""
    site.cards.driver_is_usual()
    site.clear_policy()
    for path in (LAYOUT.faults_file, LAYOUT.cleared_file):
        site.path(path).unlink(missing_ok=True)
    site.bring_back()
    ear.when_says(BEST, timeout_s=REACTED_S)
    site.settle(BEST)
    time.sleep(CALM_S)  # what is measured is a machine that does nothing else


def rows(site: CardSite, ear: Ear, eye: Eye, times: int) -> Iterator[str]:
    """Measure every event, with the agent and without."""
    for has_agent in (True, False):
        site.as_at_first()
        ear.hear_for(CALM_S)
        if not has_agent:
            site.container.run(["systemctl", "stop", AGENT_UNIT])
        for event in EVENTS:
            if event.needs_agent and not has_agent:
                continue
            row = Row(event.name)
            for _ in range(times):
                row.add(measure(site, ear, eye, event))
            yield row.text("agent" if has_agent else "path units")


@contextmanager
def a_site(folder: Path) -> Iterator[CardSite]:
    """Boot a container with the project and two cards."""
    binds = {CHECKOUT: INSIDE_CHECKOUT, Path(sysconfig.get_path("purelib")): INSIDE_SITE_PACKAGES}
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(CHECKOUT)], check=True)
    with booted(binds) as container:
        install_project(container, next(folder.glob("*.whl")), INSIDE_SITE_PACKAGES)
        with pretended_cards(container, build_drivers(folder)) as cards, a_card_site(cards, folder) as site:
            yield site


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=20, help="how often each event happens")
    times = arguments.parse_args().times
    say(f"| event | by | {' | '.join(STAGES)} |")
    say(f"|{'---|' * (len(STAGES) + 2)}")
    with tempfile.TemporaryDirectory() as folder, a_site(Path(folder)) as site, ear_on(site) as ear:
        eye = Eye(site.path(LAYOUT.run))
        try:
            for row in rows(site, ear, eye, times):
                say(row)
        finally:
            eye.close()
    say(f"\nMilliseconds since the event, median / 95th percentile of {times}.")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
