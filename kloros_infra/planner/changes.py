"""Changes for people: what differs, gathered by address, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.exposure import ExposureChange
from kloros_infra.ir.names import instance_unit
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import Action, Change, KeyChange
from kloros_infra.ir.unit_keys import ENVIRONMENT_FILE, key_changes, unit_keys
from kloros_infra.planner.address import (
    address_order,
    owner_of,
    path_address,
    store_address,
    unit_address,
    weights_address,
)
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.definitions import env_paths, environment
from kloros_infra.planner.exposure import exposure
from kloros_infra.planner.figures import size_text
from kloros_infra.planner.file_changes import Cause, FileChange
from kloros_infra.planner.keeping import on_change_of
from kloros_infra.planner.redaction import redacted_value
from kloros_infra.planner.text_keys import artifact_changes
from kloros_infra.planner.unit_changes import UnitChange, Verb
from kloros_infra.planner.unit_effects import DEFERRED, ignored_keys, is_harmless, unit_action

LEFT_OVER = "an env file is left over that nothing reads"

RELAXED_KEY = "Unit.X-Kloros-Relaxed"
UNIT_LISTS = frozenset(
    {f"Unit.{name}" for name in ("After", "Before", "Conflicts", "PartOf", "PropagatesStopTo", "Requires", "Wants")}
)

# Of a new unit only what tells it from the others is shown; the whole file is in generated/, and --diff shows it.
TELLING_KEYS = frozenset(
    {
        "Service.ExecStart",
        "Unit.Wants",
        RELAXED_KEY,
        "Unit.X-Kloros-Vram",
        "LLAMA_ARG_CTX_SIZE",
        "LLAMA_ARG_MODEL",
        "LLAMA_ARG_N_GPU_LAYERS",
        "LLAMA_ARG_N_PARALLEL",
        "LLAMA_ARG_PORT",
    }
)


def changes(
    both: Comparison, units: Mapping[str, UnitChange], place: Iterable[PlaceWeights], remove: Iterable[str]
) -> tuple[Change, ...]:
    """Gather everything that differs by address; `remove` lists the store paths whose weights go."""
    owners = env_owners(both)
    by_unit: dict[str, list[FileChange]] = {unit: [] for unit in units}
    found: list[Change] = [_weights_change(step, both) for step in place]
    found += [Change(store_address(path, both.desired.layout), Action.DELETE, Cause.DESTROYED) for path in remove]
    for file in both.files.values():
        owner = owners.get(file.path) or owner_of(file.path, both.desired.layout)
        if owner is None:
            found.append(_file_change(file, both))
        else:
            by_unit.setdefault(owner, []).append(file)
    found += [_unit_change(unit, files, units.get(unit), both) for unit, files in by_unit.items()]
    return tuple(sorted(found, key=lambda change: address_order(change.address)))


def env_owners(both: Comparison) -> dict[str, str]:
    """Map each env file to the unit that reads it, now or before."""
    desired = both.desired
    owners: dict[str, str] = {}
    for files in (both.observed.files, desired.tree):
        for path, artifact in files.items():
            unit = desired.layout.unit_at(path)
            if unit is not None and isinstance(artifact, TextFile):
                owners |= dict.fromkeys(env_paths(artifact.text, desired), unit)
    # An env file whose unit file is gone is still known by its name: <instance>.<hash>.env.
    for path in both.files:
        if path.startswith(f"{desired.layout.env}/") and path not in owners:
            owners[path] = instance_unit(path.removeprefix(f"{desired.layout.env}/").rsplit(".", 2)[0])
    return owners


def _weights_change(step: PlaceWeights, both: Comparison) -> Change:
    address, before = weights_address(step.key), both.observed.weights.get(step.destination)
    if before is not None:
        return Change(address, Action.UPDATE, "the lock pins other bytes", (KeyChange("sha256", before, step.sha256),))
    keys = (KeyChange("size", None, size_text(step.size_bytes)), KeyChange("source", None, ", ".join(step.sources)))
    return Change(address, Action.CREATE, "not in the store yet", keys)


def _file_change(file: FileChange, both: Comparison) -> Change:
    address = path_address(file.path, both.desired.layout)
    if file.before is None:
        return Change(address, Action.CREATE, file.cause)
    if file.after is None:
        return Change(address, Action.DELETE, file.cause)
    keys = artifact_changes(file.before, file.after)
    return Change(
        address, Action.UPDATE, file.cause, tuple(map(_shown, keys)), is_harmless=is_harmless((file,), keys, None)
    )


def _unit_change(unit: str, files: list[FileChange], change: UnitChange | None, both: Comparison) -> Change:
    keys, hidden = _unit_keys(unit, files, both)
    action = _action(unit, files, change, both)
    # A unit that is new is not running: that goes without saying.
    is_told = change is not None and not (action is Action.CREATE and change.verb is Verb.START)
    reasons = [*_causes(unit, files, both), *([change.reason] if change and is_told else [])] or [LEFT_OVER]
    told = unit_action(unit, files, change, both)
    return Change(
        address=unit_address(unit),
        action=action,
        reason="; ".join(dict.fromkeys(reasons)),
        keys=keys,
        unit_action=told,
        on_change=None if told != DEFERRED or both.observed.units[unit].is_masked else on_change_of(unit, both),
        exposure=_exposure(unit, both),
        seconds=0.0 if change is None else change.seconds,
        hidden=hidden,
        ignored=ignored_keys(keys) if action is Action.UPDATE else (),
        is_harmless=bool(files) and is_harmless(files, keys, change),
    )


def _exposure(unit: str, both: Comparison) -> ExposureChange | None:
    """Score a service before and after; of a new one only where something of its sandbox is left out."""
    path = both.desired.layout.unit_path(unit)
    before, after = both.observed.files.get(path), both.desired.tree.get(path)
    if not unit.endswith(".service") or not isinstance(after, TextFile):
        return None
    score = exposure(after.text)
    if not isinstance(before, TextFile):
        is_relaxed = RELAXED_KEY in unit_keys(after.text)
        return ExposureChange(None, score, both.desired.exposure_limit) if is_relaxed else None
    former = exposure(before.text)
    return None if former == score else ExposureChange(former, score, both.desired.exposure_limit)


def _causes(unit: str, files: list[FileChange], both: Comparison) -> list[str]:
    """A unit's own file says best why; an env file that only gave way to another says nothing."""
    layout = both.desired.layout
    own = [file.cause for file in files if file.path == layout.unit_path(unit)]
    rest = [file.cause for file in files if file.after is not None or not file.path.startswith(f"{layout.env}/")]
    is_gone = layout.unit_path(unit) not in both.desired.tree
    return [str(cause) for cause in own or rest or (file.cause for file in files if is_gone)]


def _action(unit: str, files: list[FileChange], change: UnitChange | None, both: Comparison) -> Action:
    path = both.desired.layout.unit_path(unit)
    if path not in both.desired.tree:
        return Action.DELETE
    if path not in both.observed.files:
        return Action.CREATE
    if change is not None and change.verb is Verb.RESTART:
        return Action.REPLACE
    if files or change is None or change.verb is Verb.START_AGAIN:
        return Action.UPDATE
    return Action.STOP if change.verb is Verb.STOP else Action.START


def _unit_keys(unit: str, files: list[FileChange], both: Comparison) -> tuple[tuple[KeyChange, ...], int]:
    """Compare a unit with its env files and links as one block; say how many keys are not listed."""
    before, after = _block(unit, both.observed.files, both), _block(unit, both.desired.tree, both)
    differing = key_changes(before, after)
    listed = differing if before else tuple(change for change in differing if change.key in TELLING_KEYS)
    listed = listed if after else ()
    layout = both.desired.layout
    links = (file for file in files if owner_of(file.path, layout) and file.path != layout.unit_path(unit))
    beside = (change for file in links for change in _beside(file))
    hidden = len(before.keys() | after.keys()) - len(listed)
    shown = (_shown(one) for change in listed for one in _by_word(change))
    return (*shown, *beside), hidden if files and after else 0


def _block(unit: str, files: Mapping[str, Artifact], both: Comparison) -> dict[str, str]:
    """All settings of a unit by name; the hash in its env file's name says nothing to a person."""
    artifact = files.get(both.desired.layout.unit_path(unit))
    if not isinstance(artifact, TextFile):
        return {}
    settings = {**unit_keys(artifact.text), **environment(unit, files, both.desired)}
    settings.pop(ENVIRONMENT_FILE, None)
    return settings


def _by_word(change: KeyChange) -> tuple[KeyChange, ...]:
    """Of a list of units, show those that come and go: all of them would not fit on a line."""
    if change.key not in UNIT_LISTS or change.before is None or change.after is None:
        return (change,)
    before, after = change.before.split(), change.after.split()
    gone = tuple(KeyChange(change.key, word, None) for word in before if word not in after)
    come = tuple(KeyChange(change.key, None, word) for word in after if word not in before)
    return gone + come


def _beside(file: FileChange) -> tuple[KeyChange, ...]:
    """A link or drop-in next to the unit file."""
    if file.before is not None and file.after is not None:
        return tuple(map(_shown, artifact_changes(file.before, file.after)))
    name = "/".join(file.path.rsplit("/", 2)[-2:])
    return (KeyChange(name, "present" if file.before else None, "present" if file.after else None),)


def _shown(change: KeyChange) -> KeyChange:
    before, after = (value and redacted_value(change.key, value) for value in (change.before, change.after))
    return KeyChange(change.key, before, after)
