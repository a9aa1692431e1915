"""Which cards are there, with hosts that listen and hosts that do not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from kloros_infra.adapters.card_presence import CardPresence, WatchedPresence
from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.routing import RoutedCard

OWN = RoutedCard(name="own", uuid=None, pci="0000:01:00.0")
SOON_S = 10.0


@pytest.fixture
def lender() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def lent(server: socket.socket, name: str = "lent") -> RoutedCard:
    link = RemoteLink("127.0.0.1", (server.getsockname()[1],), 10**9)
    return RoutedCard(name=name, uuid=None, pci=None, remote=link)


def machine(folder: Path) -> CardPresence:
    """Make a machine whose one card is there."""
    device = folder / "bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    return CardPresence(folder, folder)


def test_own_cards_and_lent_ones_are_there_together(tmp_path: Path, lender: socket.socket) -> None:
    presence, cards = machine(tmp_path), (OWN, lent(lender))
    assert presence.present(cards) == {"own", "lent"}
    assert presence.local(cards) == {"own"}
    lender.close()
    assert presence.present(cards) == {"own"}


def test_the_agent_is_right_from_the_start_and_told_when_a_host_goes(tmp_path: Path, lender: socket.socket) -> None:
    nudged = Event()
    presence, cards = WatchedPresence(machine(tmp_path), nudged.set, ask_s=0.05), (OWN, lent(lender))
    assert presence.present(cards) == {"own", "lent"}
    assert not nudged.wait(0.2)
    lender.close()
    assert nudged.wait(SOON_S)
    assert presence.present(cards) == {"own"}


def test_other_lent_cards_are_asked_about_at_once(tmp_path: Path, lender: socket.socket) -> None:
    presence = WatchedPresence(machine(tmp_path), lambda: None, ask_s=3600.0)
    assert presence.present((OWN,)) == {"own"}
    assert presence.present((OWN, lent(lender, "other"))) == {"own", "other"}
    assert presence.present((OWN,)) == {"own"}
