"""The small files by which people say what they want of the cards: lockouts, the pin, and what is of the past."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

from kloros_infra.adapters.reconcile_lock import reconcile_lock
from kloros_infra.adapters.synced_files import sync_folder
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.agent.records import cleared_text, latest_epoch_s, read_cleared, read_events
from kloros_infra.cli.gpu_site import GpuSite
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.card_facts import Lockout


class Owner(StrEnum):
    """Which command locked a card out: what each does is kept apart, and undone alone.

    The value is what follows the card's name in the file's; no card's name has an `@`.
    """

    LOCK = ""
    RELEASE = "@release"


def write_lockout(site: GpuSite, lockout: Lockout, owner: Owner) -> None:
    """Lock a card out, in the format of the design document, section 5.4."""
    said: dict[str, object] = {"lockout_gpus": [lockout.card], "reason": lockout.reason}
    if lockout.until is not None:
        said["until"] = lockout.until.isoformat(timespec="seconds")
    text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    _write(site, lockout_path(site, lockout.card, owner), text)


def remove_lockout(site: GpuSite, card: str, owner: Owner) -> bool:
    """Take a lockout of ours away; say whether there was one."""
    return _remove(site, lockout_path(site, card, owner))


def lockout_path(site: GpuSite, card: str, owner: Owner) -> str:
    """Name the file in which a command locks a card out."""
    return f"{site.where.layout.lockout_folder}/{card}{owner}.json"


def write_pin(site: GpuSite, profile: str) -> None:
    """Pin a profile."""
    _write(site, site.where.layout.pin_file, f"{profile}\n")


def remove_pin(site: GpuSite) -> bool:
    """Take the pin away; say whether there was one."""
    return _remove(site, site.where.layout.pin_file)


def note_cleared(site: GpuSite, card: str, epoch_s: float) -> None:
    """Note that what a card had before is of the past; a record that is damaged is begun anew."""
    path = site.where.layout.cleared_file
    file = site.where.root / path
    with _rights(site, path), reconcile_lock(site.where.root, wait_s=site.places.lock_wait_s):
        known = read_cleared(file.read_text(errors="replace") if file.exists() else None)
        _write(site, path, cleared_text({**known, card: _past_s(site, card, epoch_s)}))


def _past_s(site: GpuSite, card: str, epoch_s: float) -> float:
    """Give the time up to which faults are of the past: where the clock was set back, they are dated after now."""
    file = site.where.root / site.where.layout.faults_file
    events = read_events(file.read_text(errors="replace") if file.exists() else None, boot_id())
    return max(epoch_s, latest_epoch_s(events, card) or epoch_s)


def _write(site: GpuSite, path: str, text: str) -> None:
    """Replace a file; two commands at once do so one after the other, each by a file of its own."""
    root, (folder, _, name) = site.where.root, path.rpartition("/")
    fresh = f"{folder}/.{name}.{os.getpid()}"
    with _rights(site, path):
        try:
            RootedFiles(root, site.where.layout).write(fresh, TextFile(text))
            (root / fresh).replace(root / path)
        except BaseException:
            with suppress(OSError):
                (root / fresh).unlink()
            raise
        sync_folder((root / path).parent)


def _remove(site: GpuSite, path: str) -> bool:
    with _rights(site, path):
        is_there = os.path.lexists(site.where.root / path)
        RootedFiles(site.where.root, site.where.layout).remove(path)
    return is_there


@contextmanager
def _rights(site: GpuSite, path: str) -> Iterator[None]:
    """Say what is missing where this user may not write, or nobody can."""
    try:
        yield
    except LockHeldError as error:
        raise ObstacleError(error.problems) from error
    except OSError as error:
        raise ObstacleError([_not_written(site.where.root / path, error)]) from error


def _not_written(file: Path, error: OSError) -> Diagnostic:
    as_root = "Run the command as root. Lockouts may be left to a group, which docs/gpus.md shows; pins may not."
    in_the_way = "See that its folder can be written and has room, and that nothing else has its name."
    return Diagnostic(
        code="KI917",
        summary="What GPUs are used for cannot be changed",
        detail=f"{file} cannot be written: {error.strerror or error}.",
        hint=as_root if isinstance(error, PermissionError) else in_the_way,
    )
