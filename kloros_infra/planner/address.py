"""Addresses: how a plan names what it changes, the way a person thinks of it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from kloros_infra.ir.layout import MMPROJ_FILE, Layout
from kloros_infra.ir.lock import mmproj_key, weights_key
from kloros_infra.ir.names import instance_of, is_instance
from kloros_infra.planner.desired import Desired

# Plans list kinds in this order: what others need comes first.
KINDS = ("weights", "program", "instance", "service", "target", "unit", "routing", "file")


def unit_address(unit: str) -> str:
    """Name a unit: `llama@code-max.service` is `instance.code-max`."""
    stem, _, suffix = unit.rpartition(".")
    if suffix == "service":
        return f"instance.{instance_of(unit)}" if is_instance(unit) else f"service.{stem}"
    return f"target.{stem}" if suffix == "target" else f"unit.{unit}"


def weights_address(key: str) -> str:
    """Name weights by their key in the lock."""
    return f"weights.{key}"


def store_address(path: str, layout: Layout) -> str:
    """Name weights by where the store keeps them: <model>/<version>/model.gguf, and mmproj.gguf beside it."""
    model, _, rest = path.removeprefix(f"{layout.weights}/").partition("/")
    version, _, file = rest.rpartition("/")
    return weights_address(mmproj_key(model, version) if file == MMPROJ_FILE else weights_key(model, version))


def path_address(path: str, layout: Layout) -> str:
    """Name a file that belongs to no unit."""
    if path == layout.routing:
        return "routing"
    program = path.removeprefix(f"{layout.programs}/")
    return f"program.{program}" if program != path else f"file.{path}"


def owner_of(path: str, layout: Layout) -> str | None:
    """Say which unit a path below the unit folder belongs to, None elsewhere.

    A link in `x.target.wants/` belongs to the unit that it enables, a drop-in in `x.service.d/` to `x.service`.
    """
    folder = next((one for one in (layout.units, layout.former_units) if path.startswith(f"{one}/")), None)
    if folder is None:
        return None
    first, _, rest = path.removeprefix(f"{folder}/").partition("/")
    return rest if first.endswith((".wants", ".requires")) else first.removesuffix(".d")


def address_order(address: str) -> tuple[int, str]:
    """Sort addresses by kind, then name."""
    kind = address.partition(".")[0]
    return (KINDS.index(kind), address)


def desired_addresses(desired: Desired, uncounted: AbstractSet[str]) -> frozenset[str]:
    """List every address of a machine that is as desired; env files count with their unit, foreign ones never."""
    named: set[str] = {weights_address(step.key) for step in desired.weights}
    for path in desired.tree:
        owner = owner_of(path, desired.layout)
        if path not in uncounted:
            named.add(unit_address(owner) if owner else path_address(path, desired.layout))
    return frozenset(named)
