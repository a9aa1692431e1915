"""All faults, in the order of the table."""

from __future__ import annotations

import re

from tests.faults import of_bus, of_clients, of_links, of_reload, of_router, of_servers
from tests.faults.findings import Fault


def _place(fault: Fault) -> tuple[int, str]:
    """Rows with letters come after their number, and those without a number last."""
    digits = re.match(r"\d+", fault.row)
    return (int(digits[0]) if digits else 99, fault.row)


_ALL = (of_servers, of_links, of_clients, of_router, of_bus, of_reload)
FAULTS = tuple(sorted((fault for each in _ALL for fault in each.FAULTS), key=_place))
