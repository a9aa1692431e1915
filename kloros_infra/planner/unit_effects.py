"""What a differing file means for a unit that goes on running: read again, changed live, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.unit_keys import Effect, effect_of, key_changes, unit_keys
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.file_changes import Cause, FileChange
from kloros_infra.planner.unit_changes import UnitChange

NOTHING = "nothing"
RELOAD = "reload"
CHANGE_LIVE = "change live"
DEFERRED = "deferred"


def unit_action(unit: str, files: Sequence[FileChange], change: UnitChange | None, both: Comparison) -> str:
    """Name what happens to a unit; empty where nothing of it runs or nobody could be asked."""
    if change is not None:
        return change.verb
    state = both.observed.units.get(unit)
    if state is None or not state.is_active or both.desired.layout.unit_path(unit) not in both.desired.tree:
        return ""
    if unit in both.kept and both.desired.acts_on(unit):
        return DEFERRED
    effect = max((_effect(file, unit, both) for file in files), default=Effect.NONE)
    if effect is Effect.NONE:
        return NOTHING
    # Settings of a path, timer, slice or target have no process that would have to start anew.
    return CHANGE_LIVE if effect is Effect.LIVE and unit.endswith(".service") else RELOAD


def _effect(file: FileChange, unit: str, both: Comparison) -> Effect:
    layout = both.desired.layout
    if file.path != layout.unit_path(unit):
        # A link or a drop-in; an env file that means something else would have caused a restart.
        return Effect.NONE if file.path.startswith(f"{layout.env}/") else Effect.RELOAD
    if not isinstance(file.before, TextFile) or not isinstance(file.after, TextFile):
        return Effect.RELOAD
    differing = key_changes(unit_keys(file.before.text), unit_keys(file.after.text))
    return max((effect_of(change.key) for change in differing), default=Effect.NONE)


def ignored_keys(keys: Iterable[KeyChange]) -> tuple[str, ...]:
    """List the settings of a unit that differ and that nothing heeds."""
    return tuple(change.key for change in keys if "." in change.key and effect_of(change.key) is Effect.NONE)


def is_harmless(files: Iterable[FileChange], keys: Iterable[KeyChange], change: UnitChange | None) -> bool:
    """Say whether somebody changed files on the machine without changing what they mean."""
    was_altered = all(file.cause is Cause.ALTERED and _keeps_mode(file) for file in files)
    return change is None and was_altered and all(_says_nothing(key) for key in keys)


def _keeps_mode(file: FileChange) -> bool:
    match file.before, file.after:
        case TextFile(mode=before), TextFile(mode=after):
            return before == after
        case _:
            return False


def _says_nothing(change: KeyChange) -> bool:
    """Judge one difference; in files that are compared by line, it is comments and blank lines that say nothing."""
    if change.key.startswith("line "):
        return all(not side or side.lstrip().startswith("#") for side in (change.before, change.after))
    return "." in change.key and effect_of(change.key) is Effect.NONE
