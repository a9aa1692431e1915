"""The rule of polkit(8) by which the router, which is not root, may start and stop models through systemd.

systemd asks for `org.freedesktop.systemd1.manage-units` and says the unit and the verb (systemd, src/core/dbus-unit.c).
The rule goes by the form of a unit's name, so that it stays as it is when a model is added: it is no part of a
generation, and going back to one must not take the router's rights away.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.emit_host import ROUTER_USER
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.ir.artifact import Artifact, TextFile

VERBS = ("start", "stop", "restart", "kill", "reset-failed")
"""A server that hangs would take its time to stop. `reset-failed` also forgets how often a unit was started: models
that take turns would else reach its start limit.
"""

UNITS = r"^llama@[a-z0-9][a-z0-9._-]*-[a-z0-9][a-z0-9_]*\.service$"
"""Names of instances' units, a model's and a profile's name in each (`ir.names`)."""


def emit_polkit(rendering: Rendering) -> Iterator[tuple[str, Artifact]]:
    """Write the rule."""
    text = rendering.text("polkit.rules.j2", user=ROUTER_USER, verbs=VERBS, units=UNITS)
    yield rendering.layout.polkit, TextFile(text)
