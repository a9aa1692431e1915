"""What a generation changed against the one before, in a line."""

from __future__ import annotations

from kloros_infra.ir.generation import Manifest
from kloros_infra.ir.names import instance_of


def what_differs(before: Manifest | None, after: Manifest) -> str:
    """Name the units that came, went and changed; how many of each when they are many."""
    old, new = (_units(manifest) for manifest in (before, after))
    if before is None:
        return f"{len(new)} units"
    parts = (
        _part("added", sorted(new.keys() - old.keys())),
        _part("changed", sorted(unit for unit in old.keys() & new.keys() if old[unit] != new[unit])),
        _part("removed", sorted(old.keys() - new.keys())),
    )
    return "; ".join(filter(None, parts)) or _beside(before, after)


def _units(manifest: Manifest | None) -> dict[str, tuple[str, ...]]:
    """Map each instance and service to the digests of what it runs by."""
    found: dict[str, tuple[str, ...]] = {}
    for name, digest in () if manifest is None else manifest.files.items():
        folder, _, file = name.partition("/")
        if folder == "units" and "/" not in file:
            found[file] = (digest,)
    return found


def _part(verb: str, units: list[str]) -> str:
    if not units:
        return ""
    shown = ", ".join(instance_of(unit) for unit in units[:3])
    return f"{verb} {shown}" + (f" and {len(units) - 3} more" if len(units) > 3 else "")


def _beside(before: Manifest, after: Manifest) -> str:
    if before.files.get("routing.json") != after.files.get("routing.json"):
        return "routes"
    return "programs or files" if before.files != after.files or before.fixed != after.fixed else "nothing"
