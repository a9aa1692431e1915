"""What the machine itself must have: folders, the services' user, and the link that starts all of it at boot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.compiler.emit_generator import emit_generator
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.names import LLM_TARGET

BUS_USER = "kloros-llm"
ROUTER_USER = "kloros-router"
LLAMA_USER = "kloros-llama"
"""Who runs the bus, the router and the llama-servers: none can touch the others' processes.

The units say DynamicUser= as well: systemd takes the user from sysusers.d, which is read at boot, and where it is not
there yet makes it up for the run (systemd.exec(5)).
"""
LENDING_USERS = ((LLAMA_USER, "KLoROS llama-server"),)
USERS = ((BUS_USER, "KLoROS ChemBus proxy"), (ROUTER_USER, "KLoROS language model router"), *LENDING_USERS)


def emit_host(
    rendering: Rendering, users: Sequence[tuple[str, str]] = USERS, *, has_cards: bool = False
) -> Iterator[tuple[str, Artifact]]:
    """Write tmpfiles.d(5) and sysusers.d(5) entries, and enable the target as `systemctl enable` does."""
    layout = rendering.layout
    folders = tuple(layout.absolute(folder) for folder in (layout.run, layout.weights))
    policy = (layout.lockout_folder.rpartition("/")[0], layout.lockout_folder) if has_cards else ()
    lines = rendering.text(
        "tmpfiles.conf.j2", folders=folders, policy_folders=tuple(layout.absolute(folder) for folder in policy)
    )
    yield layout.tmpfiles, TextFile(lines)
    yield from emit_generator(rendering)
    yield layout.sysusers, TextFile(rendering.text("sysusers.conf.j2", users=users))
    # systemctl writes the absolute path; a relative one says the same and holds below any root (systemd.unit(5)).
    yield layout.unit_path(f"multi-user.target.wants/{LLM_TARGET}"), Link(f"../{LLM_TARGET}")
