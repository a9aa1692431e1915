"""The generator: links the units of the current generation into systemd at boot and at each reload.

Unit files that are written one by one into /etc/systemd/system are seen one by one: a unit that does not run is read
anew at its next start, reload or not. Behind the generator everything changes at a daemon-reload, and only there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kloros_infra.compiler.rendering import Rendering
from kloros_infra.ir.artifact import Artifact, TextFile

UNIT_SUFFIXES = ("service", "target", "path", "timer", "socket", "slice")
FOLDER_SUFFIXES = ("wants", "requires", "upholds", "d")
"""Folders beside units: whom they want, and drop-ins (systemd.unit(5))."""


def emit_generator(rendering: Rendering) -> Iterator[tuple[str, Artifact]]:
    """Write the generator of systemd.generator(7)."""
    layout = rendering.layout
    text = rendering.text(
        "generator.sh.j2",
        current=shlex.quote(layout.absolute(layout.current)),
        units=shlex.quote(layout.absolute(layout.units)),
        suffixes=" ".join(UNIT_SUFFIXES),
        folders=" ".join(f'"$units"/*.{suffix}' for suffix in FOLDER_SUFFIXES),
    )
    yield layout.generator, TextFile(text, mode=0o755)
