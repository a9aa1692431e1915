"""All faults, in the order of the table."""

from __future__ import annotations

from tests.faults import of_bus, of_links, of_reload, of_router, of_servers

FAULTS = (*of_servers.FAULTS, *of_links.FAULTS, *of_router.FAULTS, *of_bus.FAULTS, *of_reload.FAULTS)
