"""Placement → llama-server's settings, as the LLAMA_ARG_* variables that it reads itself.

Every setting that bears on placement is written out, so that nothing depends on a default of one build. Variables
need no word splitting in a unit; patterns are anchored and use [.] instead of a backslash (systemd.exec(5),
"EnvironmentFile="). Of a setting's on and off, llama-server reads 1 and 0 (common/arg.cpp, is_truthy).
"""

from __future__ import annotations

from collections import Counter

from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.engines.interface import FIT

# llama-server cuts a micro-batch down to its logical batch (--batch-size), whose default this is.
_DEFAULT_BATCH = 2048


def arguments(placement: Placement) -> tuple[tuple[str, str], ...]:
    """Give the settings by name, sorted; which file to load and where to listen is not among them."""
    settings = {
        "CACHE_TYPE_K": placement.cache_type_k.value,
        "CACHE_TYPE_V": placement.cache_type_v.value,
        "CTX_SIZE": str(placement.context_tokens * placement.parallel),
        # Without flash attention the compute buffer grows with heads times context (placement.memory assumes it).
        "FLASH_ATTN": "on",
        # Each slot has its own part of the cache, and so the whole of context_tokens.
        "KV_UNIFIED": "0",
        "N_PARALLEL": str(placement.parallel),
        "UBATCH": str(placement.micro_batch),
        **_devices(placement),
    }
    if placement.micro_batch > _DEFAULT_BATCH:
        settings["BATCH"] = str(placement.micro_batch)
    if placement.engine != FIT and _lends_weights(placement):
        # Copies to a card are faster from pinned memory, which mapped weights are not in (llama-model.cpp, where a
        # device's host buffer is given up for mmap). The second name is that of builds without --load-mode.
        settings |= {"LOAD_MODE": "none", "MMAP": "false"}
    if placement.exceptions:
        buffers = {remote.device: remote.buffer for remote in placement.remotes}
        written = (f"{one.pattern}={buffers.get(one.device, one.device)}" for one in placement.exceptions)
        settings["OVERRIDE_TENSOR"] = ",".join(written)
    if placement.remotes:
        settings["RPC"] = ",".join(placement.endpoints)
    return tuple(sorted((f"LLAMA_ARG_{name}", value) for name, value in settings.items()))


def works_alone(placement: Placement) -> bool:
    """Say whether the processor shall multiply by its weights itself, for which there is an option and no variable.

    The first card is another host's, which does no work for it (ggml-rpc.cpp has no offload_op): llama.cpp would turn
    to the next card, on which no memory is set aside for that.
    """
    first = next(load.device for load in placement.loads)
    return _lends_weights(placement) and any(remote.device == first for remote in placement.remotes)


def _lends_weights(placement: Placement) -> bool:
    """Say whether cards multiply prompts by weights that are in host memory."""
    on_cpu = CPU in placement.layer_devices or any(one.device == CPU for one in placement.exceptions)
    return on_cpu and not placement.is_cpu_only


def _devices(placement: Placement) -> dict[str, str]:
    gpus = [load.device for load in placement.loads if load.device != CPU]
    if not gpus:
        return {"DEVICE": "none", "FIT": "off", "N_GPU_LAYERS": "0", "SPLIT_MODE": "none"}
    if placement.engine == FIT:
        # --fit changes only what is unset: neither N_GPU_LAYERS nor TENSOR_SPLIT here.
        return {"DEVICE": ",".join(gpus), "FIT": "on", "SPLIT_MODE": "layer"}
    counts = Counter(placement.layer_devices)
    on_gpus = sum(counts[gpu] for gpu in gpus)
    alone = {"DEVICE": ",".join(gpus), "FIT": "off", "N_GPU_LAYERS": str(on_gpus), "SPLIT_MODE": "none"}
    if len(gpus) == 1:
        return alone
    # Whole numbers that add up to N_GPU_LAYERS give each card so many layers (llama-model.cpp, load_tensors).
    return {**alone, "SPLIT_MODE": "layer", "TENSOR_SPLIT": ",".join(str(counts[gpu]) for gpu in gpus)}
