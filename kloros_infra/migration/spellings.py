"""How llama-server's options are spelled: long names, short ones, variables, and those of presets alone.

llama.cpp b10068, `llama-server --help` and common/arg.cpp; a test holds the tables against the installed build. An
option that is not here is its own only spelling, and one that is no switch takes a value.
"""

from __future__ import annotations

from collections.abc import Mapping

_SPELLINGS = """
agent|ag alias|a backend-sampling|bs batch-size|b cache-list|cl cache-ram|cram cache-type-k|ctk cache-type-v|ctv
checkpoint-min-step|cms cont-batching|cb cpu-mask|C cpu-mask-batch|Cb cpu-moe|cmoe cpu-range|Cr
cpu-range-batch|Crb ctx-checkpoints|swa-checkpoints|ctxcp ctx-size|c defrag-thold|dt device|dev direct-io|dio
docker-repo|dr draft|draft-n|draft-max draft-min|draft-n-min embedding|embeddings escape|e fit-ctx|fitc
fit-target|fitt flash-attn|fa help|usage|h hf-file|hff hf-file-v|hffv hf-repo|hf|hfr hf-repo-v|hfv|hfrv
hf-token|hft json-schema|j json-schema-file|jf kv-offload|kvo kv-unified|kvu logit-bias|l
lookup-cache-dynamic|lcd lookup-cache-static|lcs main-gpu|mg mmproj|mm mmproj-url|mmu model|m model-url|mu
model-vocoder|mv n-cpu-moe|ncmoe n-gpu-layers|gpu-layers|ngl no-agent|no-ag no-cont-batching|nocb
no-direct-io|ndio no-kv-offload|nkvo no-kv-unified|no-kvu no-mmproj-auto|no-mmproj no-repack|nr
override-tensor|ot parallel|np predict|n-predict|n reasoning|rea rerank|reranking reverse-prompt|r
sampler-seq|sampling-seq seed|s slot-prompt-similarity|sps spec-draft-cpu-mask|cpu-mask-draft|Cd
spec-draft-cpu-mask-batch|cpu-mask-batch-draft|Cbd spec-draft-cpu-moe|cpu-moe-draft|cmoed
spec-draft-cpu-range|cpu-range-draft|Crd spec-draft-cpu-strict|cpu-strict-draft
spec-draft-cpu-strict-batch|cpu-strict-batch-draft spec-draft-device|device-draft|devd
spec-draft-hf|hf-repo-draft|hfd|hfrd spec-draft-model|model-draft|md
spec-draft-n-cpu-moe|spec-draft-ncmoe|n-cpu-moe-draft|ncmoed
spec-draft-ngl|gpu-layers-draft|n-gpu-layers-draft|ngld spec-draft-override-tensor|override-tensor-draft|otd
spec-draft-p-min|draft-p-min spec-draft-p-split|draft-p-split spec-draft-poll|poll-draft
spec-draft-poll-batch|poll-batch-draft spec-draft-prio|prio-draft spec-draft-prio-batch|prio-batch-draft
spec-draft-threads|threads-draft|td spec-draft-threads-batch|threads-batch-draft|tbd
spec-draft-type-k|cache-type-k-draft|ctkd spec-draft-type-v|cache-type-v-draft|ctvd special|sp split-mode|sm
temp|temperature tensor-split|ts threads|t threads-batch|tb timeout|to top-nsigma|top-n-sigma typical|typical-p
ubatch-size|ub ui|webui ui-config|webui-config ui-config-file|webui-config-file ui-mcp-proxy|webui-mcp-proxy
verbose|log-verbose|v verbosity|log-verbosity|lv
"""

_SWITCHES = """
agent backend-sampling cache-idle-slots cache-list cache-prompt check-tensors completion-bash cont-batching
context-shift cors-credentials cpu-moe direct-io embd-gemma-default embedding escape fim-qwen-1.5b-default
fim-qwen-14b-spec fim-qwen-30b-default fim-qwen-3b-default fim-qwen-7b-default fim-qwen-7b-spec
gpt-oss-120b-default gpt-oss-20b-default help ignore-eos jinja kv-offload kv-unified list-devices log-disable
log-prefix log-timestamps lora-init-without-apply metrics mlock mmap mmproj-auto mmproj-offload models-autoload
no-host offline op-offload perf prefill-assistant props reasoning-preserve repack rerank reuse-port
skip-chat-parsing slots spec-default spec-draft-backend-sampling spec-draft-cpu-moe special spm-infill swa-full
tts-use-guide-tokens ui ui-mcp-proxy verbose version vision-gemma-12b-default vision-gemma-4b-default warmup
"""

SWITCHES = frozenset(_SWITCHES.split())
"""Options that take no value."""

PRESET_SWITCHES = frozenset({"load-on-startup"})
PRESET_KEYS = PRESET_SWITCHES | {"stop-timeout", "dedup-cache-models", "version"}
"""Keys of preset files that are no options (common_params_add_preset_options)."""

UNUSUAL_VARIABLES: Mapping[str, str] = {
    "HF_TOKEN": "hf-token",
    "LLAMA_API_KEY": "api-key",
    "LLAMA_ARG_BATCH": "batch-size",
    "LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT": "checkpoint-min-step",
    "LLAMA_ARG_DIO": "direct-io",
    "LLAMA_ARG_DRAFT_MAX": "draft",
    "LLAMA_ARG_EMBEDDINGS": "embedding",
    "LLAMA_ARG_ENDPOINT_METRICS": "metrics",
    "LLAMA_ARG_ENDPOINT_PROPS": "props",
    "LLAMA_ARG_ENDPOINT_SLOTS": "slots",
    "LLAMA_ARG_LOG_VERBOSITY": "verbosity",
    "LLAMA_ARG_N_GPU_LAYERS_DRAFT": "spec-draft-ngl",
    "LLAMA_ARG_N_PARALLEL": "parallel",
    "LLAMA_ARG_N_PREDICT": "predict",
    "LLAMA_ARG_RERANKING": "rerank",
    "LLAMA_ARG_ROPE_SCALING_TYPE": "rope-scaling",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": "spec-draft-type-k",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": "spec-draft-type-v",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": "spec-draft-hf",
    "LLAMA_ARG_STATIC_PATH": "path",
    "LLAMA_ARG_THINK": "reasoning-format",
    "LLAMA_ARG_THINK_BUDGET": "reasoning-budget",
    "LLAMA_ARG_THINK_BUDGET_MESSAGE": "reasoning-budget-message",
    "LLAMA_ARG_UBATCH": "ubatch-size",
}
VARIABLE_PREFIX = "LLAMA_ARG_"

PREFERRED: Mapping[str, str] = {
    other: first for first, *others in (entry.split("|") for entry in _SPELLINGS.split()) for other in others
}
"""Preferred long names by every other spelling, without dashes."""


def preferred(spelling: str) -> tuple[str, bool]:
    """Give an option's preferred long name, and whether the spelling switches it off."""
    name = PREFERRED.get(spelling, spelling)
    twin = PREFERRED.get(name.removeprefix("no-"), name.removeprefix("no-"))
    return (twin, True) if name.startswith("no-") and twin in SWITCHES else (name, False)


def of_variable(variable: str) -> str | None:
    """Give the preferred long name of an option by its environment variable; None where it is none of an option."""
    if variable in UNUSUAL_VARIABLES:
        return UNUSUAL_VARIABLES[variable]
    if not variable.startswith(VARIABLE_PREFIX):
        return None
    return preferred(variable.removeprefix(VARIABLE_PREFIX).lower().replace("_", "-"))[0]
