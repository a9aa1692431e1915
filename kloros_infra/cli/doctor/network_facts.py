"""What is asked of ports, of ChemBus and of the router."""

from __future__ import annotations

import os
import secrets
import time

from kloros_infra.adapters.bus_address import bus_addresses
from kloros_infra.adapters.bus_client import publish
from kloros_infra.adapters.control_client import ControlClient
from kloros_infra.adapters.ports_in_use import ProcPorts
from kloros_infra.cli.doctor.project_view import View
from kloros_infra.cli.wiring import observing_manager
from kloros_infra.doctor.facts import Bus, PortUse, Router, Seen, Unseen
from kloros_infra.errors import KlorosError
from kloros_infra.ir.names import BUS_UNIT, ROUTER_UNIT
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.planner.desired import Desired
from kloros_infra.router.wire import write_message

ANSWER_S = 3.0
TRIPS = 3
TOPIC = "infra.doctor"
"""Nobody waits for messages of this topic."""


def see_ports(view: View) -> tuple[PortUse, ...]:
    """Ask who listens on the ports that are needed, and which processes are ours."""
    ports = ProcPorts()
    manager = observing_manager(view.where)
    states = manager.states({needed.unit for needed in view.wanted.ports}) if manager else {}
    pids = {unit: state.main_pid for unit, state in states.items()}
    unknown = 0 if manager else None
    return tuple(
        PortUse(needed, ports.listeners(needed.port), pids.get(needed.unit, unknown)) for needed in view.wanted.ports
    )


def see_bus(view: View) -> Bus | None:
    """Send messages over the bus and see them come back; None where the bus is ours and not installed yet."""
    table = view.table
    is_ours = BUS_UNIT in view.wanted.units
    if table is None or (is_ours and not _has(view, BUS_UNIT)):
        return None
    addresses = bus_addresses(os.environ, table.bus)
    try:
        # The best of a few: what is asked at the same time takes the processor's time, too.
        taken_s = min(_round_trip_s(addresses) for _ in range(TRIPS))
    except KlorosError as error:
        problem = error.problems[0]
        return Bus(addresses.xsub, is_ours, trouble=f"{problem.code} {problem.detail}".rstrip("."))
    return Bus(addresses.xsub, is_ours, round_trip_s=taken_s)


def _round_trip_s(addresses: RoutedBus) -> float:
    """Say how long one message takes, with the two connections that it needs."""
    incident_id = f"doctor-{secrets.token_hex(8)}"
    payload = write_message(TOPIC, "infra", {}, ts=time.time(), incident_id=incident_id)
    begun_s = time.monotonic()
    publish(addresses, TOPIC, payload, timeout_s=ANSWER_S)
    return time.monotonic() - begun_s


def see_router(view: View) -> Seen[Router | None]:
    """Ask the router how it is; None where it is not installed yet."""
    if not _has(view, ROUTER_UNIT):
        return None
    begun_s = time.monotonic()
    try:
        health = ControlClient(view.where.root / view.where.layout.control_socket, timeout_s=ANSWER_S).health()
    except KlorosError as error:
        if isinstance(error.__cause__, PermissionError):
            return Unseen("its control socket may not be used by this user")
        problem = error.problems[0]
        return Router(trouble=f"{problem.code} {problem.detail}".rstrip("."))
    return Router(answer_s=time.monotonic() - begun_s, profile=health.gpu_profile)


def _has(view: View, unit: str) -> bool:
    return isinstance(view.installed, Desired) and any(one.unit == unit for one in view.installed.units)
