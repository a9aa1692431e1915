"""Where the router stands: the root that its routing table is installed below, and who may control it."""

from __future__ import annotations

import os
from pathlib import Path

from kloros_infra.ir.layout import Layout


def root_of(routing: Path) -> Path | None:
    """Say below which root a routing table is installed; None for a table that lies somewhere else."""
    depth = Layout().routing.count("/") + 1
    # The folder of the current generation is a link, which is not to be followed.
    path = routing.absolute()
    return path.parents[depth - 1] if path.match(Layout().routing) else None


def operators(root: Path | None) -> frozenset[int]:
    """Name the users who may control the router: root, its own, and the owner of the root that it serves."""
    uids = {0, os.geteuid()}
    if root is not None:
        uids.add(root.stat().st_uid)
    return frozenset(uids)
