"""Which profile is active on a target: what boot writes down, what `profile show` says, and what a plan goes by.

The card is another host's, so that a test decides whether it is there: by listening at its port.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.cli.active_profile import profile_by_table, start_profile
from kloros_infra.cli.wiring import ManagerChoice, Target, choose_profile
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedCard, RoutedProfile
from tests.factories import a_card, a_catalog, a_profile, a_routing_table
from tests.free_ports import free_ports

LAYOUT = Layout()


class Host:
    """A root with a routing table, and another host's port."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.routing = root / LAYOUT.routing
        lent = RoutedCard(name="lent", uuid=None, pci=None, remote=RemoteLink("127.0.0.1", (port,), 10**9))
        profiles = (RoutedProfile(name="max", cards=(lent,)), RoutedProfile(name="cpu_only", cards=()))
        table = a_routing_table(profile_file=str(root / LAYOUT.profile_file))
        self.text = table.model_copy(update={"profiles": profiles}).model_dump_json()
        self.say(LAYOUT.routing, self.text)

    def say(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def chosen(self) -> str:
        """Choose as a plan does."""
        catalog = a_catalog(profiles=(a_profile("max", a_card("lent")), a_profile("cpu_only")))
        compiled = Compiled(catalog, {}, MappingProxyType({LAYOUT.routing: TextFile(self.text)}), ())
        return choose_profile(compiled, Target(self.root, ManagerChoice.SUPERVISOR))


@pytest.fixture
def lender() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", *free_ports(1))) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, lender: socket.socket) -> Host:
    return Host(tmp_path, lender.getsockname()[1])


def test_what_is_shown_is_not_written(host: Host) -> None:
    table, (name, reason) = profile_by_table(host.routing)
    assert (name, reason, table.profile_names) == ("max", "'max' has its cards lent.", ("max", "cpu_only"))
    assert not (host.root / LAYOUT.run).exists()


def test_boot_writes_the_profile_down_and_which_generation_that_was(host: Host, lender: socket.socket) -> None:
    outcome = start_profile(host.routing)
    assert outcome.report
    assert outcome.report.profile == (host.root / LAYOUT.profile_file).read_text().strip() == "max"
    assert (host.root / LAYOUT.booted_file).read_text() == f"- {boot_id()}\n"
    lender.close()
    start_profile(host.routing)
    assert (host.root / LAYOUT.profile_file).read_text() == "cpu_only\n"


def test_without_a_table_there_is_nothing_to_choose(host: Host) -> None:
    host.routing.unlink()
    for choose in (start_profile, profile_by_table):
        with pytest.raises(ProblemsError) as refused:
            choose(host.routing)
        assert refused.value.problems[0].code.startswith("KI8")


def test_a_plan_goes_by_the_cards_and_by_what_people_want(host: Host, lender: socket.socket) -> None:
    assert host.chosen() == "max"
    host.say(LAYOUT.pin_file, "cpu_only\n")
    assert host.chosen() == "cpu_only"
    (host.root / LAYOUT.pin_file).unlink()
    lender.close()
    assert host.chosen() == "cpu_only"


def test_a_plan_goes_by_what_the_agent_remembers(host: Host, lender: socket.socket) -> None:
    port = lender.getsockname()[1]
    lender.close()
    start_profile(host.routing)
    with socket.create_server(("127.0.0.1", port)):
        # The card is back, and has to stay for a while.
        assert host.chosen() == "cpu_only"
        memory = host.root / LAYOUT.topology_file
        header, _, state = memory.read_text().partition("\n")
        memory.write_text(json.dumps({**json.loads(header), "boot_id": "another"}) + "\n" + state)
        assert host.chosen() == "max"


def test_a_plan_without_cards_looks_at_nothing() -> None:
    catalog = a_catalog(profiles=(a_profile("cpu_only"),))
    nowhere = Target(Path("/nonexistent"), ManagerChoice.SUPERVISOR)
    assert choose_profile(Compiled(catalog, {}, {}, ()), nowhere) == "cpu_only"
