"""What follows the cards: which units there are, what they may do, and what raises the flag."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.emit_cards import NUMBERS
from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.catalog import Card, Catalog, RemoteLink, RpcHost
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import (
    AGENT_UNIT,
    DIRTY_PATH,
    DIRTY_TIMER,
    DIRTY_UNIT,
    LLM_TARGET,
    NODES_UNIT,
    PROFILE_UNIT,
    RECONCILE_PATH,
    RECONCILE_UNIT,
)
from kloros_infra.ir.unit_keys import unit_keys
from tests.factories import a_card, a_catalog, a_profile

LOCAL, LENT = a_card("rtx3060"), replace(a_card("rtx5080"), remote=RemoteLink("10.0.0.7", (50052,), 10**8))
LENDER = RpcHost("gaming", "10.0.0.7", "lan0", "/opt/ggml-rpc-server", ("10.0.0.3",), ())
SYSTEMD = {AGENT_UNIT, NODES_UNIT, RECONCILE_PATH, RECONCILE_UNIT, DIRTY_PATH, DIRTY_TIMER, DIRTY_UNIT}
BELOW = Layout(prefix="/srv/site")


def a_machine(*cards: Card, lender: bool = False) -> Catalog:
    profiles = (a_profile("mid", *cards), a_profile("cpu_only"))
    return replace(a_catalog(profiles=profiles), instances=(), models=(), rpc_hosts=(LENDER,) if lender else ())


def emitted(catalog: Catalog, layout: Layout | None = None) -> ArtifactTree:
    return emit(catalog, {}, read_templates(), layout or Layout())


def units(tree: ArtifactTree, layout: Layout | None = None) -> Mapping[str, Mapping[str, str]]:
    where = layout or Layout()
    texts = {
        unit: file.text for path, file in tree.items() if (unit := where.unit_at(path)) and isinstance(file, TextFile)
    }
    return {unit: unit_keys(text) for unit, text in texts.items()}


def followed(tree: ArtifactTree, layout: Layout | None = None) -> set[str]:
    return set(units(tree, layout)) & SYSTEMD


def words(unit: Mapping[str, str], key: str) -> set[str]:
    return set(unit.get(key, "").split())


def test_without_cards_there_is_nothing_to_follow() -> None:
    tree = emitted(a_machine())

    assert followed(tree) == set()
    assert Layout().udev_rules not in tree
    assert "etc/kloros" not in str(tree[Layout().tmpfiles])
    assert words(units(tree)[LLM_TARGET], "Unit.Wants").isdisjoint(SYSTEMD)
    assert units(tree)[PROFILE_UNIT]["Service.PrivateDevices"] == "yes"


def test_with_a_card_all_of_it_is_there_and_starts_with_everything() -> None:
    tree = emitted(a_machine(LOCAL))
    found = units(tree)

    assert followed(tree) == SYSTEMD
    assert words(found[LLM_TARGET], "Unit.Wants") >= {AGENT_UNIT, RECONCILE_PATH, DIRTY_PATH, DIRTY_TIMER}
    assert {unit for unit in SYSTEMD if found[unit].get("Unit.PartOf") != LLM_TARGET} == {RECONCILE_UNIT, DIRTY_UNIT}


def test_lent_cards_alone_raise_no_event_and_need_no_driver() -> None:
    tree = emitted(a_machine(LENT, lender=True))

    assert followed(tree) == SYSTEMD - {NODES_UNIT}
    assert Layout().udev_rules not in tree
    agent = units(tree)[AGENT_UNIT]
    assert agent["Service.PrivateDevices"] == "yes"
    assert agent["Service.IPAddressAllow"] == "10.0.0.7"
    assert agent["Service.RestrictAddressFamilies"] == "AF_UNIX AF_INET"
    assert "network-online.target" in words(agent, "Unit.After")


def test_the_embedded_supervisor_runs_the_agent_and_knows_no_paths() -> None:
    tree = emitted(a_machine(LOCAL), BELOW)
    found = units(tree, BELOW)

    assert followed(tree, BELOW) == {AGENT_UNIT}
    assert words(found[LLM_TARGET], "Unit.Wants") & SYSTEMD == {AGENT_UNIT}
    assert NODES_UNIT not in words(found[AGENT_UNIT], "Unit.Wants")
    assert BELOW.udev_rules not in tree
    assert found[AGENT_UNIT]["Service.ExecStart"].endswith("/bin/kloros-infra gpu watch --root /srv/site")


@pytest.mark.parametrize("unit", [PROFILE_UNIT, AGENT_UNIT, RECONCILE_UNIT])
def test_who_looks_sees_the_driver_and_the_names_of_processes_and_no_network(unit: str) -> None:
    found = units(emitted(a_machine(LOCAL)))[unit]

    assert found["Service.DeviceAllow"] == "char-nvidia* rw"
    assert found["Service.ProtectProc"] == "default"
    assert found["Service.PrivateNetwork"] == "yes"
    assert found["Service.CapabilityBoundingSet"] == ""
    assert found["Service.RuntimeDirectory"] == "kloros"
    has_nodes_made = NODES_UNIT in words(found, "Unit.Wants") & words(found, "Unit.After")
    assert has_nodes_made is (unit != RECONCILE_UNIT), "where there is no driver, systemd logs each attempt"


def test_names_of_processes_are_given_up_where_the_network_is_open() -> None:
    found = units(emitted(a_machine(LOCAL, LENT, lender=True)))[AGENT_UNIT]

    assert (found["Service.DeviceAllow"], found["Service.ProtectProc"]) == ("char-nvidia* rw", "invisible")


def test_the_flag_is_one_file_for_all_who_raise_it_and_who_heeds_it() -> None:
    tree = emitted(a_machine(LOCAL))
    found, flag = units(tree), f"/{Layout().dirty_file}"

    assert found[RECONCILE_PATH]["Path.PathExists"] == flag
    assert found[RECONCILE_UNIT]["Unit.ConditionPathExists"] == flag
    assert found[RECONCILE_UNIT]["Service.ExecStartPre"] == f"rm -f {flag}"
    assert found[DIRTY_UNIT]["Service.ExecStart"] == f"touch {flag}"
    assert str(tree[Layout().udev_rules]).count(f"touch {flag}") == 2
    assert {found[unit]["Path.Unit"] for unit in (DIRTY_PATH,)} == {found[DIRTY_TIMER]["Timer.Unit"]} == {DIRTY_UNIT}
    # Else the sixth change in ten seconds fails the path unit for good.
    assert {found[unit]["Unit.StartLimitIntervalSec"] for unit in (RECONCILE_UNIT, DIRTY_UNIT)} == {"0"}


def test_lockouts_and_the_pin_raise_the_flag() -> None:
    watched = units(emitted(a_machine(LOCAL)))[DIRTY_PATH]["Path.PathChanged"].split("\n")

    assert watched == ["/etc/kloros/gpu_lockout", "/etc/kloros/gpu_lockouts.d", "/etc/kloros/gpu_pin"]


def test_rules_of_udev_name_every_action_and_never_the_driver() -> None:
    file = emitted(a_machine(LOCAL))[Layout().udev_rules]
    assert isinstance(file, TextFile)
    rules = [line for line in file.text.splitlines() if not line.startswith("#")]

    assert re.findall(r'ACTION=="([^"]*)"', rules[0]) == ["add|bind|change|unbind|remove"]
    assert re.findall(r'ACTION=="([^"]*)"', rules[1]) == ["remove"]
    assert all('SUBSYSTEM=="pci"' in rule and "DRIVER" not in rule for rule in rules)


def test_folders_of_lockouts_keep_the_mode_that_an_administrator_gave_them() -> None:
    file = emitted(a_machine(LOCAL))[Layout().tmpfiles]
    assert isinstance(file, TextFile)

    assert "d /etc/kloros/gpu_lockouts.d - - - -\n" in file.text


def test_numbers_of_devices_are_the_driver_s(tmp_path: Path) -> None:
    """The lines are those of /proc/driver/nvidia/gpus/*/information."""
    for address, minor in (("0000:04:00.0", 0), ("0000:07:00.0", 2)):
        place = tmp_path / address / "information"
        place.parent.mkdir()
        place.write_text(f"Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 45\nDevice Minor: \t {minor}\n")
    command = NUMBERS.replace("/proc/driver/nvidia/gpus", str(tmp_path))

    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout == "-c 0\n-c 2\n"


def test_services_that_start_each_minute_do_not_fill_the_journal() -> None:
    found = units(emitted(a_machine(LOCAL)))

    for unit in (RECONCILE_UNIT, DIRTY_UNIT):
        assert (found[unit]["Service.LogLevelMax"], found[unit]["Service.SyslogLevel"]) == ("notice", "notice")
