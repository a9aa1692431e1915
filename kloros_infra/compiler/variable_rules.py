"""Why each variable stands in an instance's env file, as `directive_rules` says it of units."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.compiler.directive_rules import CUDA_GUIDE as CUDA
from kloros_infra.compiler.directive_rules import PLACEMENT, WEIGHTS, Rule

README = "llama.cpp, tools/server/README.md"
DRAFT = ("model:draft",)

VARIABLES: Mapping[str, Rule] = {
    "CUDA_DEVICE_ORDER": Rule("CUDA's own order is fastest first; this one is stable.", CUDA, ("profile:gpus",)),
    "CUDA_VISIBLE_DEVICES": Rule("CUDA0 is the profile's first card.", CUDA, ("profile:gpus", "gpu:uuid", "gpu:pci")),
    "LLAMA_ARG_BATCH": Rule("A micro-batch is never larger than a batch.", README, ("instance:arguments",)),
    "LLAMA_ARG_CACHE_RAM": Rule("Contexts that wait; the default of 8 GiB outweighs most models.", README),
    "LLAMA_ARG_CACHE_TYPE_K": Rule("How keys are kept.", README, ("instance:cache_type_k",)),
    "LLAMA_ARG_CACHE_TYPE_V": Rule("How values are kept.", README, ("instance:cache_type_v",)),
    "LLAMA_ARG_CHAT_TEMPLATE": Rule("A template in place of the file's own.", README, ("model:chat_template",)),
    "LLAMA_ARG_CTX_SIZE": Rule(
        "The context of one request, times the requests at once.",
        f"{README}, --ctx-size",
        ("instance:context_tokens", "instance:parallel"),
    ),
    "LLAMA_ARG_DEVICE": Rule("The cards that hold layers.", README, PLACEMENT),
    "LLAMA_ARG_EMBEDDINGS": Rule("The model embeds.", README, ("model:kind",)),
    "LLAMA_ARG_ENDPOINT_METRICS": Rule("Says how many requests it answers: plan and status ask.", README),
    "LLAMA_ARG_FIT": Rule("Only where it is asked to does llama-server move layers itself.", README, PLACEMENT),
    "LLAMA_ARG_FLASH_ATTN": Rule("Without it the compute buffer grows with the context.", README),
    "LLAMA_ARG_HOST": Rule("Only the router talks to it, on the same machine.", README),
    "LLAMA_ARG_JINJA": Rule("With the newer engine a template's name would be taken for a template.", README),
    "LLAMA_ARG_KV_UNIFIED": Rule("Each slot has the whole of its context.", README),
    "LLAMA_ARG_LOAD_MODE": Rule("From mapped files copies to cards are slow.", README, PLACEMENT),
    "LLAMA_ARG_LOG_VERBOSITY": Rule("It says at each start where it loaded what: apply reads that.", README),
    "LLAMA_ARG_MMAP": Rule("The same for builds without --load-mode.", README, PLACEMENT),
    "LLAMA_ARG_MMPROJ": Rule("The file that turns images into tokens.", README, ("version:mmproj_url",)),
    "LLAMA_ARG_MMPROJ_OFFLOAD": Rule("The projector is where the output head is.", README, PLACEMENT),
    "LLAMA_ARG_MODEL": Rule("The version in use, as it lies in the store.", README, WEIGHTS),
    "LLAMA_ARG_N_GPU_LAYERS": Rule("How many layers are on cards.", README, PLACEMENT),
    "LLAMA_ARG_N_GPU_LAYERS_DRAFT": Rule("The draft model is where the output head is.", README, DRAFT),
    "LLAMA_ARG_N_PARALLEL": Rule("Requests that are answered at once.", README, ("instance:parallel",)),
    "LLAMA_ARG_OFFLINE": Rule("Weights come from the store alone.", README),
    "LLAMA_ARG_OVERRIDE_TENSOR": Rule("Tensors that leave their layer's device.", README, PLACEMENT),
    "LLAMA_ARG_PORT": Rule("Where the router finds it.", README, ("instance:port",)),
    "LLAMA_ARG_RERANKING": Rule("The model ranks.", README, ("model:kind",)),
    "LLAMA_ARG_RPC": Rule("Servers that lend cards of other hosts; their order names the devices.", README, PLACEMENT),
    "LLAMA_ARG_SPEC_DRAFT_MODEL": Rule("The small model that proposes tokens.", README, DRAFT),
    "LLAMA_ARG_SPEC_DRAFT_N_MAX": Rule("Tokens it proposes at most.", README, DRAFT),
    "LLAMA_ARG_SPEC_DRAFT_N_MIN": Rule("Fewer proposals are not worth a check.", README, DRAFT),
    "LLAMA_ARG_SPEC_DRAFT_P_MIN": Rule("Less likely tokens are not proposed.", README, DRAFT),
    "LLAMA_ARG_SPEC_TYPE": Rule("Proposals come from a model.", README, DRAFT),
    "LLAMA_ARG_SPLIT_MODE": Rule("Whole layers go to cards.", README, PLACEMENT),
    "LLAMA_ARG_TENSOR_SPLIT": Rule("How many layers each card holds.", README, PLACEMENT),
    "LLAMA_ARG_UBATCH": Rule("Tokens that are computed at once.", README, ("instance:arguments",)),
    "LLAMA_ARG_UI": Rule("It has no users of its own.", README),
    "MTMD_BACKEND_DEVICE": Rule("Otherwise a projector goes to the first card.", "llama.cpp, tools/mtmd", PLACEMENT),
}
