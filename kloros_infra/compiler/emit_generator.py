"""The generator: links the units of the current generation into systemd at boot and at each reload."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.rendering import Rendering
from kloros_infra.ir.artifact import Artifact, TextFile


def emit_generator(rendering: Rendering) -> Iterator[tuple[str, Artifact]]:
    """Write the generator of systemd.generator(7)."""
    layout = rendering.layout
    text = rendering.text("generator.sh.j2", units=layout.absolute(layout.units))
    yield layout.generator, TextFile(text, mode=0o755)
