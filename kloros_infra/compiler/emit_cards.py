"""The units that look at cards: the choice at boot, the agent, and what raises the flag and heeds it without an agent.

Events only raise a flag, and whoever takes it looks at the cards himself: so none is lost, however many come, and
whoever is asked to look finds what is there and not what was (systemd.path(5), PathExists=).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kloros_infra.compiler.rendering import KLOROS_INFRA, Rendering
from kloros_infra.compiler.systemd_syntax import exec_start
from kloros_infra.compiler.unit_lines import DENIED_CALLS
from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.catalog import Card, Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import (
    AGENT_UNIT,
    DIRTY_PATH,
    DIRTY_TIMER,
    DIRTY_UNIT,
    FOLLOWERS,
    NODES_UNIT,
    PROFILE_UNIT,
    RECONCILE_PATH,
    RECONCILE_UNIT,
)

NETWORK = "network-online.target"
NUMBERS = "sed -n 's/^Device Minor:[[:space:]]*/-c /p' /proc/driver/nvidia/gpus/*/information"
NODES_OF_CARDS = f"exec nvidia-modprobe -c 255 $({NUMBERS})"
"""The control device and one for each card, by the numbers that the driver gives them (nvidia-modprobe(1))."""
NODES_OF_MEMORY = ("nvidia-modprobe", "-u", "-c", "0")
"""Without it CUDA finds no card, and llama-server takes the processor without a word."""


def followers(catalog: Catalog, layout: Layout) -> tuple[str, ...]:
    """Name the units that the target of everything wants so that the cards are followed; systemd alone knows paths."""
    if not catalog.cards:
        return ()
    return FOLLOWERS if layout.has_systemd else (AGENT_UNIT,)


def nodes_unit(cards: Iterable[Card], layout: Layout) -> str:
    """Name the unit that who uses these cards must wait for, "" where there is none."""
    return NODES_UNIT if layout.has_systemd and _has_local(cards) else ""


def emit_udev_rules(catalog: Catalog, rendering: Rendering) -> Iterator[tuple[str, Artifact]]:
    """Write the rules by which cards that come and go raise the flag; udevd sees new rules by itself.

    Before an event it looks whether files of rules have changed (systemd, src/udev/udevd.c, event_queue_start).
    """
    layout = rendering.layout
    if layout.has_systemd and _has_local(catalog.cards):
        text = rendering.text("udev.rules.j2", flag=layout.absolute(layout.dirty_file))
        yield layout.udev_rules, TextFile(text)


def emit_cards(catalog: Catalog, rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Write the choice of the profile and, where there are cards to follow, all that does: pairs of unit and text."""
    layout = rendering.layout
    routing = layout.absolute(layout.routing)
    yield PROFILE_UNIT, _looking(PROFILE_UNIT, ("profile", "start", "--routing", routing), catalog, rendering)
    if not catalog.cards:
        return
    where = ("--root", layout.prefix or "/")
    yield AGENT_UNIT, _looking(AGENT_UNIT, ("gpu", "watch", *where), catalog, rendering)
    if layout.has_systemd:
        yield RECONCILE_UNIT, _looking(RECONCILE_UNIT, ("gpu", "reconcile", *where), catalog, rendering)
        yield from _raising(rendering)
    if nodes_unit(catalog.cards, layout):
        yield NODES_UNIT, _nodes(rendering)


def _looking(unit: str, words: tuple[str, ...], catalog: Catalog, rendering: Rendering) -> str:
    """Write the unit of a command that looks at cards."""
    layout = rendering.layout
    addresses = tuple(dict.fromkeys(host.address for host in catalog.rpc_hosts))
    # Each minute would be too often: where there is no driver, systemd logs each time that its nodes are not made.
    nodes = "" if unit == RECONCILE_UNIT else nodes_unit(catalog.cards, layout)
    wants = " ".join(filter(None, (nodes, NETWORK if addresses else "")))
    has_cards = _has_local(catalog.cards)
    return rendering.text(
        f"{unit}.j2",
        exec_start=exec_start((rendering.program(KLOROS_INFRA), *words)),
        wants=wants,
        # The choice at boot also notes which generation that was.
        after=f"{wants} {PROFILE_UNIT}".lstrip(),
        flag=layout.absolute(layout.dirty_file),
        folder=_run_folder(layout),
        denied_calls=DENIED_CALLS,
        addresses=addresses,
        has_cards=has_cards,
        # It gives the names of others' processes that have memory of a card, but not where it reaches other hosts as
        # well: both together would leave more open than `sandbox.security_threshold` has as its standard.
        seen_processes="default" if has_cards and not addresses else "invisible",
    )


def _raising(rendering: Rendering) -> Iterator[tuple[str, str]]:
    """Write what raises the flag beside udev, and what has it heeded while there is no agent."""
    layout = rendering.layout
    flag = layout.absolute(layout.dirty_file)
    watched = (layout.lockout_file, layout.lockout_folder, layout.pin_file)
    yield RECONCILE_PATH, rendering.text(f"{RECONCILE_PATH}.j2", flag=flag)
    yield DIRTY_PATH, rendering.text(f"{DIRTY_PATH}.j2", watched=tuple(map(layout.absolute, watched)))
    yield DIRTY_TIMER, rendering.text(f"{DIRTY_TIMER}.j2")
    yield (
        DIRTY_UNIT,
        rendering.text(
            f"{DIRTY_UNIT}.j2",
            flag=flag,
            folder=_run_folder(layout),
            denied_calls=DENIED_CALLS,
            addresses=(),
            has_cards=False,
        ),
    )


def _nodes(rendering: Rendering) -> str:
    commands = (exec_start(("/bin/sh", "-c", NODES_OF_CARDS)), exec_start(NODES_OF_MEMORY))
    return rendering.text(f"{NODES_UNIT}.j2", commands=commands, denied_calls=DENIED_CALLS)


def _run_folder(layout: Layout) -> str:
    return layout.run.rpartition("/")[2]


def _has_local(cards: Iterable[Card]) -> bool:
    return any(card.remote is None for card in cards)
