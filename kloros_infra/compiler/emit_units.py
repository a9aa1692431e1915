"""The units of llama-servers, one for each instance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kloros_infra.compiler.emit_cards import nodes_unit
from kloros_infra.compiler.emit_command import server_words
from kloros_infra.compiler.emit_env import PROMPT_CACHE_MIB
from kloros_infra.compiler.emit_host import LLAMA_USER
from kloros_infra.compiler.limits import (
    MIB,
    RESTART_LIMIT,
    RESTART_MAX_S,
    RESTART_S,
    RESTART_STEPS,
    RESTART_STEPS_SINCE,
    memory_max_bytes,
    start_limit_interval_s,
)
from kloros_infra.compiler.placed import card_shares, foreseen
from kloros_infra.compiler.rendering import KLOROS_INFRA, LLAMA_SERVER, Rendering
from kloros_infra.compiler.surroundings import Surroundings
from kloros_infra.compiler.systemd_syntax import exec_start, unit_value
from kloros_infra.compiler.unit_lines import (
    DENIED_CALLS,
    RESOURCES,
    for_version,
    further_limits,
    relaxations,
    relaxed_words,
    resource_arguments,
    without,
)
from kloros_infra.ir.card_share import shares_text
from kloros_infra.ir.catalog import Instance, Sandbox
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.names import LLM_TARGET
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.predicted_speed import predicted_text
from kloros_infra.ir.relaxation import Relaxation
from kloros_infra.ir.rpc_server import awaited_text
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.remote import shown_cards

LEAST_STOP_S = 1
"""To systemd, no seconds at all are no end (systemd.service(5), TimeoutStopSec=)."""


def emit_instance(
    instance: Instance, placement: Placement, *, around: Surroundings, env_file: str, rendering: Rendering
) -> str:
    """Write the unit of one instance; `env_file` is relative, as in the tree."""
    model, layout, sandbox = instance.model, rendering.layout, around.sandbox
    files = model_files(model, layout)
    cards = shown_cards(placement, instance)
    relaxed = relaxations(instance, sandbox, has_cards=bool(cards))
    memory_max = memory_max_bytes(
        placement,
        weights_bytes=files.size_bytes,
        prompt_cache_bytes=PROMPT_CACHE_MIB * MIB,
        headroom_bytes=sandbox.memory_headroom_bytes,
    )
    text = rendering.text(
        "llama.service.j2",
        description=unit_value(f"llama-server {instance.id} ({model.display_name})"),
        model_id=model.id,
        weights=" ".join(_digest(stored.weights) for stored in files.all),
        placement=unit_value(placement.engine),
        on_change=instance.serving.on_change,
        card_shares=shares_text(card_shares(placement)),
        predicted_speed=_predicted_speed(placement),
        endpoints=awaited_text(placement.endpoints),
        weights_paths=tuple(layout.absolute(stored.path) for stored in files.all),
        user=LLAMA_USER,
        env_path=layout.absolute(env_file),
        exec_start=exec_start((rendering.program(LLAMA_SERVER), *server_words(instance, placement))),
        memory_max=f"{memory_max // MIB}M",
        exec_start_pre=_awaits_servers(placement, rendering),
        remote_addresses=tuple(dict.fromkeys(one.rpartition(":")[0] for one in placement.endpoints)),
        stop_s=max(LEAST_STOP_S, math.ceil(instance.serving.drain_s)),
        # Of the cards of its profile it is shown those that it uses (placement.remote); without any it needs no device.
        has_cards=bool(cards),
        **_relations(around, nodes_unit(cards, layout)),
        **_restarts(files.size_bytes, around.systemd_version),
        **_sandbox(instance, sandbox, relaxed),
    )
    left_out = {directive for relaxation in relaxed for directive in relaxation.directives}
    return for_version(without(text, left_out), around.systemd_version)


def _digest(weights: LockedWeights) -> str:
    return f"sha256:{weights.sha256}" if weights.sha256 else "derived"


def _relations(around: Surroundings, nodes: str) -> dict[str, object]:
    """Say how an instance stands to other units; `nodes` makes the devices of its cards, "" where it has none."""
    return {
        # Not its profile's target: a switch moves requests first, and the router stops what is idle then.
        "target": LLM_TARGET,
        "wants": nodes,
        "conflicts": around.conflicts,
        "after": " ".join(filter(None, (nodes, around.after))),
    }


def _restarts(weights_bytes: int, systemd_version: int) -> dict[str, object]:
    """Say how a crashed instance comes back, and when it is given up."""
    has_steps = systemd_version >= RESTART_STEPS_SINCE
    longest_s = RESTART_MAX_S if has_steps else RESTART_S
    return {
        "restart_s": RESTART_S,
        "restart_steps": RESTART_STEPS if has_steps else None,
        "restart_max_s": longest_s,
        "start_limit_burst": RESTART_LIMIT,
        "start_limit_interval_s": start_limit_interval_s(weights_bytes, pause_s=longest_s),
    }


def _sandbox(instance: Instance, sandbox: Sandbox, relaxed: Sequence[Relaxation]) -> dict[str, object]:
    """Say what an instance may do and take."""
    needs_resources = bool(resource_arguments(instance))
    return {
        # systemd expands nothing in X- keys, and the text of models.yaml is one line.
        "relaxed": tuple(relaxed_words(instance, relaxed)),
        "limits": tuple(further_limits(instance)),
        "denied_calls": DENIED_CALLS.removesuffix(f" {RESOURCES}") if needs_resources else DENIED_CALLS,
        "cpu_weight": sandbox.cpu_weight,
        "io_weight": sandbox.io_weight,
        "read_only_paths": tuple(unit_value(path) for path in sandbox.read_only_paths),
    }


def _awaits_servers(placement: Placement, rendering: Rendering) -> str | None:
    """Write the command that waits for the RPC servers which an instance needs."""
    words = (rendering.program(KLOROS_INFRA), "await_rpc", *placement.endpoints)
    return exec_start(words) if placement.endpoints else None


def _predicted_speed(placement: Placement) -> str:
    prediction = foreseen(placement)
    return "" if prediction is None else predicted_text(prediction)
