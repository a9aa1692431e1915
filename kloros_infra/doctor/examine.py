"""All checks, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from kloros_infra.doctor import (
    check_cards,
    check_driver,
    check_installation,
    check_machine,
    check_network,
    check_server,
    check_storage,
)
from kloros_infra.doctor.check import Check, Finding, Group, Status, as_check
from kloros_infra.doctor.facts import Facts


@dataclass(frozen=True, slots=True)
class Rule:
    """One check by its name."""

    name: str
    group: Group
    look: Callable[[Facts], Iterator[Finding]]


RULES = (
    Rule("driver", Group.CARDS, check_driver.check_driver),
    Rule("kernel_modules", Group.CARDS, check_driver.check_kernel_modules),
    Rule("nvml", Group.CARDS, check_cards.check_nvml),
    Rule("cards", Group.CARDS, check_cards.check_cards),
    Rule("throttling", Group.CARDS, check_cards.check_throttling),
    Rule("persistence", Group.CARDS, check_cards.check_persistence),
    Rule("devices", Group.CARDS, check_cards.check_devices),
    Rule("uvm_at_boot", Group.CARDS, check_cards.check_uvm_at_boot),
    Rule("llama_server", Group.SERVER, check_server.check_llama_server),
    Rule("cuda_build", Group.SERVER, check_server.check_cuda_build),
    Rule("options", Group.SERVER, check_server.check_options),
    Rule("overrider", Group.SERVER, check_server.check_overrider),
    Rule("systemd", Group.MACHINE, check_machine.check_systemd),
    Rule("cgroup", Group.MACHINE, check_machine.check_cgroup),
    Rule("memory", Group.MACHINE, check_machine.check_memory),
    Rule("limits", Group.MACHINE, check_machine.check_limits),
    Rule("clock", Group.MACHINE, check_machine.check_clock),
    Rule("time_zone", Group.MACHINE, check_machine.check_time_zone),
    Rule("journal", Group.MACHINE, check_machine.check_journal),
    Rule("disk", Group.STORAGE, check_storage.check_disk),
    Rule("weights", Group.STORAGE, check_storage.check_weights),
    Rule("models_yaml", Group.INSTALLATION, check_installation.check_models_file),
    Rule("generation", Group.INSTALLATION, check_installation.check_generation),
    Rule("units", Group.INSTALLATION, check_installation.check_units),
    Rule("triggers", Group.INSTALLATION, check_installation.check_triggers),
    Rule("profile", Group.INSTALLATION, check_installation.check_profile),
    Rule("lockouts", Group.INSTALLATION, check_installation.check_lockouts),
    Rule("ports", Group.NETWORK, check_network.check_ports),
    Rule("bus", Group.NETWORK, check_network.check_bus),
    Rule("router", Group.NETWORK, check_network.check_router),
)
NAMES = tuple(rule.name for rule in RULES)


def examine(facts: Facts, only: Collection[str] = NAMES) -> tuple[Check, ...]:
    """Make all checks, or those that are named."""
    return tuple(
        as_check(rule.name, rule.group, finding) for rule in RULES if rule.name in only for finding in rule.look(facts)
    )


def has_failed(checks: Collection[Check]) -> bool:
    """Say whether any check is a failure."""
    return any(check.status is Status.FAILURE for check in checks)
