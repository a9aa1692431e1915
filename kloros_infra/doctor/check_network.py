"""Checks of ports, of ChemBus and of the router."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.facts import Facts, PortUse, Unseen

# Design document, section 11: message throughput with less than 100 ms.
SLOW_BUS_S = 0.1

PORT_TAKEN = Kind(
    "KI963",
    Status.FAILURE,
    "A service that finds its port taken does not start, and clients talk to whoever has it.",
    "Stop the other program, or give {unit} another port in models.yaml. Ollama on the bridge's port is stopped with "
    "`sudo systemctl disable --now ollama` once its clients may be answered by this router.",
)
BUS_SILENT = Kind(
    "KI964",
    Status.FAILURE,
    "KLoROS asks for models over ChemBus: without it nobody is answered but those who speak HTTP.",
    "{fix}",
)
BUS_SLOW = Kind(
    "KI965",
    Status.WARNING,
    "Each question and each piece of an answer goes over the bus, and takes this much longer.",
    "`kloros-infra bus status` shows who sends how much, and who does not keep up.",
)
ROUTER_SILENT = Kind(
    "KI966",
    Status.FAILURE,
    "Every request goes through the router.",
    "Run `kloros-infra status` and `kloros-infra logs router`.",
)
START_OURS = "Run `kloros-infra logs bus`; `sudo systemctl restart kloros-bus` starts it anew."
START_THEIRS = "Start KLoROS's own proxy, or write `bus: {managed: true}` into models.yaml to have one run here."


def check_ports(facts: Facts) -> Iterator[Finding]:
    """Say whether the ports are free, or ours."""
    ports = facts.ports
    if isinstance(ports, Unseen):
        yield not_seen(ports)
        return
    hidden = [use for use in ports if _is_hidden(use)]
    taken = [use for use in ports if use.listeners and use not in hidden and not _is_ours(use)]
    for use in taken:
        yield found(PORT_TAKEN, f"{use.needed.port}, which {use.needed.unit} needs, {_by(use)}", unit=use.needed.unit)
    if hidden:
        yield not_seen(Unseen(f"whose programs listen on {', '.join(str(use.needed.port) for use in hidden)}"))
    if not taken and not hidden:
        used = sum(bool(use.listeners) for use in ports)
        yield fine(f"{used} used by ours, {len(ports) - used} free")


def _is_hidden(use: PortUse) -> bool:
    """Say whether somebody listens of whom nothing is known, while nothing is known of the unit."""
    return use.main_pid is None and bool(use.listeners)


def _is_ours(use: PortUse) -> bool:
    """Say whether the unit itself listens; whose process is hidden is taken for it while the unit runs."""
    pid = use.main_pid or 0
    return pid > 0 and all(one.pid == 0 or one.belongs_to(pid) for one in use.listeners)


def _by(use: PortUse) -> str:
    seen = [f"{one.name} (pid {one.pid})" for one in use.listeners if one.pid]
    return f"is taken by {', '.join(seen)}" if seen else "is taken by another user's program"


def check_bus(facts: Facts) -> Iterator[Finding]:
    """Say whether ChemBus carries messages, and how fast."""
    bus = facts.bus
    if isinstance(bus, Unseen):
        yield not_seen(bus)
    elif bus is None:
        yield fine("not installed yet")
    elif bus.trouble:
        yield found(BUS_SILENT, bus.trouble, fix=START_OURS if bus.is_ours else START_THEIRS)
    else:
        taken_s = bus.round_trip_s or 0.0
        detail = f"a message through {bus.address} took {taken_s * 1000:.1f} ms"
        yield found(BUS_SLOW, detail) if taken_s > SLOW_BUS_S else fine(detail)


def check_router(facts: Facts) -> Iterator[Finding]:
    """Say whether the router answers."""
    router = facts.router
    if isinstance(router, Unseen):
        yield not_seen(router)
    elif router is None:
        yield fine("not installed yet")
    elif router.trouble:
        yield found(ROUTER_SILENT, router.trouble)
    else:
        yield fine(f"answered in {router.answer_s * 1000:.1f} ms, serves by {router.profile}")
