"""The env file of an instance: what llama-server reads as LLAMA_ARG_*, and which cards CUDA shows it.

llama-server takes nearly all of its options from the environment (llama.cpp, common/arg.cpp), where no value is split
or expanded on the way. A flag that only switches on takes `1`; one with a `--no-` twin takes `true` or `false`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import assert_never

from kloros_infra.compiler.rendering import Rendering
from kloros_infra.compiler.systemd_syntax import env_lines
from kloros_infra.ir.catalog import Card, Draft, Instance, Model, ModelKind
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.load_report import LOG_VERBOSITY
from kloros_infra.placement.remote import shown_cards

UPSTREAM_HOST = "127.0.0.1"
"""Only the router talks to a llama-server, and it runs on the same machine."""

PROMPT_CACHE_MIB = 1024
"""Host memory for the contexts of conversations that wait; llama-server's own 8192 would outweigh most models."""


def emit_env(instance: Instance, placement: Placement, *, rendering: Rendering) -> str:
    """Write an instance's env file."""
    variables = {
        **_server(instance, rendering.layout),
        **_companions(instance, placement, rendering.layout),
        **loading_variables(instance, placement),
    }
    return rendering.text("instance.env.j2", lines=tuple(env_lines(variables)))


def loading_variables(instance: Instance, placement: Placement) -> dict[str, str]:
    """Give the variables that decide what a model's own weights and contexts take, and where."""
    return {
        **_model(instance.model),
        **cuda_variables(shown_cards(placement, instance)),
        **dict(arguments(placement)),
    }


def env_path(instance: InstanceId, text: str, layout: Layout) -> str:
    """Name an env file by its content, so that the unit which reads it changes exactly when its values do.

    systemd itself does not notice a changed EnvironmentFile=.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{layout.env}/{instance}.{digest[:8]}.env"


def _server(instance: Instance, layout: Layout) -> dict[str, str]:
    return {
        "LLAMA_ARG_MODEL": layout.absolute(model_files(instance.model, layout).own.path),
        "LLAMA_ARG_HOST": UPSTREAM_HOST,
        "LLAMA_ARG_PORT": str(instance.port),
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_UI": "false",
        "LLAMA_ARG_ENDPOINT_METRICS": "1",
        "LLAMA_ARG_CACHE_RAM": str(PROMPT_CACHE_MIB),
        # At its standard llama-server does not say which device holds what, and apply could not check it.
        "LLAMA_ARG_LOG_VERBOSITY": str(LOG_VERBOSITY),
    }


def _model(model: Model) -> dict[str, str]:
    match model.kind:
        case ModelKind.EMBEDDING:
            return {"LLAMA_ARG_EMBEDDINGS": "1"}
        case ModelKind.RERANK:
            # Sets the pooling to `rank` as well.
            return {"LLAMA_ARG_RERANKING": "1"}
        case ModelKind.CHAT | ModelKind.VISION:
            return _chat_template(model)
        case _ as never:
            assert_never(never)


def _chat_template(model: Model) -> dict[str, str]:
    """Name a template of llama.cpp's own; with its newer engine on, the name itself would be taken for a template."""
    if model.chat_template is None:
        return {}
    return {"LLAMA_ARG_CHAT_TEMPLATE": model.chat_template, "LLAMA_ARG_JINJA": "false"}


def _companions(instance: Instance, placement: Placement, layout: Layout) -> dict[str, str]:
    """Say what is loaded beside the model, all of it on the device of the output head."""
    files, device = model_files(instance.model, layout), placement.head_device
    variables: dict[str, str] = {}
    if instance.model.draft is not None and files.draft is not None:
        variables |= _draft(instance.model.draft, layout.absolute(files.draft.path), device)
    if files.projector is not None:
        variables |= {
            "LLAMA_ARG_MMPROJ": layout.absolute(files.projector.path),
            "LLAMA_ARG_MMPROJ_OFFLOAD": "false" if device == CPU else "true",
        }
        if device != CPU:
            # Without it a projector goes to the first card that CUDA shows (tools/mtmd/clip.cpp).
            variables["MTMD_BACKEND_DEVICE"] = device
    return variables


def _draft(draft: Draft, path: str, device: str) -> dict[str, str]:
    """Let a small model propose tokens; its device has no variable (`compiler.emit_command`)."""
    return {
        "LLAMA_ARG_N_GPU_LAYERS_DRAFT": "0" if device == CPU else "all",
        "LLAMA_ARG_SPEC_DRAFT_MODEL": path,
        "LLAMA_ARG_SPEC_DRAFT_N_MAX": str(draft.max_tokens),
        "LLAMA_ARG_SPEC_DRAFT_N_MIN": str(draft.min_tokens),
        "LLAMA_ARG_SPEC_DRAFT_P_MIN": str(draft.min_probability),
        "LLAMA_ARG_SPEC_TYPE": "draft-simple",
    }


def cuda_variables(cards: Sequence[Card]) -> dict[str, str]:
    """Make CUDA0 the first of these cards, whatever else the machine holds (CUDA C++ guide, "Environment Variables").

    UUIDs name cards for good. Without them a card goes by its place in PCI order, which holds until a card is added. An
    index that cannot be hides all.
    """
    if not cards:
        return {"CUDA_VISIBLE_DEVICES": "-1"}
    uuids = tuple(card.uuid for card in cards if card.uuid)
    has_all = len(uuids) == len(cards)
    visible = uuids if has_all else tuple(str(card.cuda_index) for card in cards)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(visible)}
