"""A file that a person named for a command to write to: it may be a link, a device or a pipe as well."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kloros_infra.adapters.generated_folder import write_text_atomically


def write_output(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a text where a name leads: a file as a whole or not at all, anything else by writing to it.

    rename(2) would put a file in place of a link or a device.
    """
    descriptor = _descriptor(file)
    if descriptor is not None:
        # Opened anew it would have a position of its own, and what is written through the old one would cover this.
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as stream:
            stream.write(text)
    elif is_stream(file):
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
    else:
        write_text_atomically(file.resolve(), text, mode)


def is_stream(file: Path) -> bool:
    """Say whether a name leads to what can be written to and not replaced: a device, a pipe, a file held open."""
    try:
        kind = file.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(kind) or _descriptor(file) is not None


def _descriptor(file: Path) -> int | None:
    """Give the number of an open file that a name such as /dev/stdout means; proc(5), fd."""
    place = file.parent.resolve() / file.name
    if place.parent == Path(f"/proc/{os.getpid()}/fd") and place.name.isdecimal():
        return int(place.name)
    return _descriptor(place.parent / place.readlink()) if place.is_symlink() else None
