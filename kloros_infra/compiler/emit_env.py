"""The env file of an instance: what llama-server reads as LLAMA_ARG_*, and which cards CUDA shows it.

llama-server takes nearly all of its options from the environment (llama.cpp, common/arg.cpp), where no value is split
or expanded on the way. A flag that only switches on takes `1`; one with a `--no-` twin takes `true` or `false`.
"""

from __future__ import annotations

import hashlib

from kloros_infra.compiler.rendering import Rendering
from kloros_infra.compiler.systemd_syntax import env_lines
from kloros_infra.ir.catalog import Instance, Model, ModelKind, Profile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.arguments import arguments

UPSTREAM_HOST = "127.0.0.1"
"""Only the router talks to a llama-server, and it runs on the same machine."""

PROMPT_CACHE_MIB = 1024
"""Host memory for the contexts of conversations that wait; llama-server's own 8192 would outweigh most models."""


def emit_env(instance: Instance, placement: Placement, *, rendering: Rendering) -> str:
    """Write an instance's env file."""
    variables = {
        **_server(instance, rendering.layout),
        **_kind(instance.model),
        **_cuda(instance.profile),
        **dict(arguments(placement)),
    }
    return rendering.text("instance.env.j2", lines=tuple(env_lines(variables)))


def env_path(instance: InstanceId, text: str, layout: Layout) -> str:
    """Name an env file by its content, so that the unit which reads it changes exactly when its values do.

    systemd itself does not notice a changed EnvironmentFile=.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{layout.env}/{instance}.{digest[:8]}.env"


def _server(instance: Instance, layout: Layout) -> dict[str, str]:
    model = instance.model
    return {
        "LLAMA_ARG_MODEL": layout.absolute(layout.weights_path(model.id, model.version_id)),
        "LLAMA_ARG_HOST": UPSTREAM_HOST,
        "LLAMA_ARG_PORT": str(instance.port),
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_UI": "false",
        "LLAMA_ARG_ENDPOINT_METRICS": "1",
        "LLAMA_ARG_CACHE_RAM": str(PROMPT_CACHE_MIB),
    }


def _kind(model: Model) -> dict[str, str]:
    return {"LLAMA_ARG_EMBEDDINGS": "1"} if model.kind is ModelKind.EMBEDDING else {}


def _cuda(profile: Profile) -> dict[str, str]:
    """Make CUDA0 the profile's first card, whatever else the machine holds (CUDA C++ guide, "Environment Variables").

    UUIDs name cards for good. Without them a card goes by its place in PCI order, which holds until a card is added.
    """
    if not profile.cards:
        return {}
    uuids = tuple(card.uuid for card in profile.cards if card.uuid)
    has_all = len(uuids) == len(profile.cards)
    visible = uuids if has_all else tuple(str(card.cuda_index) for card in profile.cards)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(visible)}
