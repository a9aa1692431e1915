"""Look at this machine for `init`: every adapter that describes it, joined to one value."""

from __future__ import annotations

import os
import socket
from datetime import date
from pathlib import Path

from kloros_infra.adapters.driver_files import driver_cards
from kloros_infra.adapters.host import read_host
from kloros_infra.adapters.installed_servers import installed_servers
from kloros_infra.adapters.nvml import nvml_cards
from kloros_infra.adapters.ollama_presence import find_ollama
from kloros_infra.adapters.ollama_store import usual_stores
from kloros_infra.adapters.packages import find_in_package
from kloros_infra.adapters.ports_in_use import ProcPorts
from kloros_infra.adapters.systemd_version import installed_systemd
from kloros_infra.compiler.instance_ports import FIRST_PORT
from kloros_infra.diagnostics import Problems
from kloros_infra.starting.cards import joined_cards
from kloros_infra.starting.choices import BRIDGE_PORT, BUS_PORTS
from kloros_infra.starting.facts import MachineFacts
from kloros_infra.starting.starter_models import PACKAGED

LOOKED_AT = 40
"""So many ports from each first one: more than any first file takes."""


def look_around() -> tuple[MachineFacts, Problems]:
    """Describe this machine; what could not be asked is a warning."""
    host = read_host()
    from_nvml, problems = nvml_cards()
    facts = MachineFacts(
        host_name=socket.gethostname().partition(".")[0],
        processor=host.processor,
        thread_count=host.thread_count,
        memory_bytes=host.memory_bytes,
        today=date.today().isoformat(),
        cards=joined_cards(from_nvml, driver_cards()),
        llama_servers=installed_servers(),
        packaged_weights=frozenset(filter(find_in_package, (PACKAGED.source,))),
        # Path.home() raises where a service has no home.
        ollama=find_ollama(usual_stores(os.environ, Path(os.environ.get("HOME", "/")))),
        ports_in_use=_ports_in_use(),
        systemd_version=installed_systemd(),
    )
    return facts, problems


def _ports_in_use() -> frozenset[int]:
    ports = ProcPorts()
    asked = (*BUS_PORTS, *_from(BRIDGE_PORT), *_from(FIRST_PORT))
    return frozenset(port for port in asked if ports.listeners(port))


def _from(first: int) -> range:
    return range(first, first + LOOKED_AT)
