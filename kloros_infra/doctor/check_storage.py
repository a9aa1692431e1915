"""Checks of room on the disk and of weights."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.facts import Facts, Unseen

GIB, MIB = 2**30, 2**20
# A generation has some hundred kilobytes, journals some megabytes.
NEEDED_STATE_BYTES = 256 * MIB
# What a further version of a small model takes; below, the next `pull` fails.
COMFORTABLE_BYTES = 5 * GIB
SHOWN_WEIGHTS = 3

DISK_FULL = Kind(
    "KI960",
    Status.FAILURE,
    "An apply that finds no room stops before it changes anything, and journals that cannot be written lose answers.",
    "Make room: `kloros-infra gc` and `modelctl gc` remove what is no longer used.",
)
DISK_SHORT = Kind(
    "KI961",
    Status.WARNING,
    "A further version of a model does not fit beside the present one.",
    "Make room: `kloros-infra gc` and `modelctl gc` remove what is no longer used.",
)
WEIGHTS_MISSING = Kind(
    "KI962",
    Status.WARNING,
    "A model whose weights are not there, or not whole, cannot be started.",
    "{fix}",
)
FETCH = "`kloros-infra apply` fetches what is missing, and checks size and sha256."
PIN = "Run `kloros-infra lock` where the weights can be reached, which pins size and sha256; then apply."


def check_disk(facts: Facts) -> Iterator[Finding]:
    """Hold the room that there is against what is still to come."""
    room, missing = facts.room, facts.wanted.missing_weights_bytes
    if isinstance(room, Unseen):
        yield not_seen(room)
        return
    problems = []
    left = room.weights_bytes - missing
    if left < 0:
        detail = (
            f"{_size(room.weights_bytes)} are free in {room.weights_path}, and {_size(missing)} of weights are to come"
        )
        problems.append(found(DISK_FULL, detail))
    elif left < COMFORTABLE_BYTES:
        problems.append(found(DISK_SHORT, f"{_size(left)} will be free in {room.weights_path}"))
    if room.state_bytes < NEEDED_STATE_BYTES:
        problems.append(found(DISK_FULL, f"{_size(room.state_bytes)} are free in {room.state_path}"))
    yield from problems or [fine(f"{_size(room.weights_bytes)} free in {room.weights_path}")]


def check_weights(facts: Facts) -> Iterator[Finding]:
    """Say whether the weights of all models are there as a whole."""
    wanted = facts.wanted
    if not wanted.source:
        yield fine("not looked at: nothing says which models there are")
    elif not wanted.missing_weights and not wanted.unpinned_weights:
        yield fine(f"{wanted.weights_count} in the store, whole by their sizes")
    if wanted.missing_weights:
        yield found(WEIGHTS_MISSING, f"{_some(wanted.missing_weights)}: not in the store, or not whole", fix=FETCH)
    if wanted.unpinned_weights:
        yield found(WEIGHTS_MISSING, f"{_some(wanted.unpinned_weights)}: not pinned by the lock", fix=PIN)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN_WEIGHTS
    return ", ".join(names[:SHOWN_WEIGHTS]) + (f" and {more} more" if more > 0 else "")


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size // MIB} MiB"
