"""What the machine itself must have: folders, the services' user, and the link that starts all of it at boot."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.emit_generator import emit_generator
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.names import LLM_TARGET

SERVER_USER = "kloros-llm"
LLAMA_USER = "kloros-llama"
"""Who runs the bus and the router, and who runs the llama-servers: neither can touch the other's processes.

The units say DynamicUser= as well: systemd takes the user from sysusers.d, which is read at boot, and where it is not
there yet makes it up for the run (systemd.exec(5)).
"""
USERS = ((SERVER_USER, "KLoROS ChemBus proxy and router"), (LLAMA_USER, "KLoROS llama-server"))


def emit_host(rendering: Rendering) -> Iterator[tuple[str, Artifact]]:
    """Write tmpfiles.d(5) and sysusers.d(5) entries, and enable the target as `systemctl enable` does."""
    layout = rendering.layout
    folders = tuple(layout.absolute(folder) for folder in (layout.run, layout.weights))
    yield layout.tmpfiles, TextFile(rendering.text("tmpfiles.conf.j2", folders=folders))
    yield from emit_generator(rendering)
    yield layout.sysusers, TextFile(rendering.text("sysusers.conf.j2", users=USERS))
    # systemctl writes the absolute path; a relative one says the same and holds below any root (systemd.unit(5)).
    yield layout.unit_path(f"multi-user.target.wants/{LLM_TARGET}"), Link(f"../{LLM_TARGET}")
