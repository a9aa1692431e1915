"""What a compile gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.rpc_server import HostPart


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a models.yaml means: `tree` is for the local host, `parts` are for others; `warnings` did not stop it."""

    catalog: Catalog
    placements: Mapping[InstanceId, Placement]
    tree: ArtifactTree
    warnings: Problems
    parts: tuple[HostPart, ...] = ()
