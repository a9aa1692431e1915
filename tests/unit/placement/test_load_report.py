"""What real llama-servers wrote while they loaded is read as they meant it.

The logs of tests/cases/load_report are those of real builds with SmolLM2 (30 layers) or Gemma 3 270M (18 layers); the
cards in them are pretend ones, whose memory is this machine's. Lines about the file's metadata are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.load_report import Buffer, BufferKind, LoadReport
from kloros_infra.placement.load_report import MIB, device_of, parse_load_report, since_last_start

CASES = sorted(path.parent for path in (Path(__file__).parents[2] / "cases" / "load_report").glob("*/llama-server.log"))


def lines_of(case: Path) -> list[str]:
    return (case / "llama-server.log").read_text("utf-8").splitlines()


def shown(report: LoadReport) -> dict[str, Any]:
    """Write a report as JSON that can be held against the log: buffers as `device kind MiB`."""
    return {
        "devices": list(report.devices),
        "models": [
            {
                "buffers": [shown_buffer(buffer) for buffer in model.buffers],
                "layers": f"{model.offloaded_layers}/{model.layer_slots}",
                "flash_attention": model.has_flash_attention,
                "slot_context_tokens": model.slot_context_tokens,
                "graph_splits": model.graph_splits,
            }
            for model in report.models
        ],
        "notes": list(report.notes),
    }


def shown_buffer(buffer: Buffer) -> str:
    mapped = " mapped" if buffer.is_mapped else ""
    return f"{buffer.device} {buffer.kind} {buffer.size_bytes / MIB:.2f}{mapped}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_real_log_is_read_as_it_was_meant(case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text("utf-8"))
    assert shown(parse_load_report(lines_of(case))) == expected


def test_there_are_cases() -> None:
    assert len(CASES) >= 16


def test_what_follows_the_load_is_not_read() -> None:
    lines = ["load_tensors:        CUDA0 model buffer size =    92.17 MiB", "main: model loaded"]
    said_later = "slot: user wrote: x:       CUDA1 model buffer size =    92.17 MiB"
    assert parse_load_report([*lines, said_later]) == parse_load_report(lines)
    assert parse_load_report(lines).total_bytes() == {"CUDA0": round(92.17 * MIB)}
    assert parse_load_report(lines).is_complete
    assert not parse_load_report(lines[:1]).is_complete


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_several_starts_in_one_log_the_last_counts(case: Path) -> None:
    first = [line for other in CASES for line in lines_of(other)]
    assert parse_load_report([*first, *lines_of(case)]) == parse_load_report(lines_of(case))


def test_what_backends_say_before_the_start_belongs_to_it() -> None:
    before = ["main: model loaded", "something else"]
    start = [
        "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
        "warning: no usable GPU found, --gpu-layers option will be ignored",
        "build: 4701 (be3bbd62) with cc (Debian 12.2.0) for x86_64-linux-gnu",
        "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB",
    ]
    assert since_last_start([*before, *start]) == start
    assert parse_load_report([*before, *start]).notes == tuple(start[:2])


def test_a_log_without_a_start_is_read_from_its_first_line() -> None:
    assert since_last_start(["a", "b"]) == ["a", "b"]
    assert parse_load_report([]) == LoadReport()


# Wordings of builds of 2024 and 2025, from logs in llama.cpp's issue tracker, shortened.
OF_2024 = """\
llm_load_tensors: offloading 40 repeating layers to GPU
llm_load_tensors: offloaded 41/41 layers to GPU
llm_load_tensors:        CPU buffer size =  1640.62 MiB
llm_load_tensors:      CUDA0 buffer size =  5434.38 MiB
llama_new_context_with_model: n_ctx      = 4096
llama_new_context_with_model: flash_attn = 0
llama_kv_cache_init:      CUDA0 KV buffer size =  1536.00 MiB
llama_new_context_with_model: KV self size  = 5120.00 MiB, K (f16): 2560.00 MiB, V (f16): 2560.00 MiB
llama_new_context_with_model:  CUDA_Host  output buffer size =     1.95 MiB
llama_new_context_with_model:      CUDA0 compute buffer size =   672.01 MiB
llama_new_context_with_model: graph splits = 2
"""
OF_2025 = """\
build: 5600 (0000000) with cc (Debian 12.2.0) for x86_64-linux-gnu
llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 4080 SUPER) - 15035 MiB free
llama_model_loader: loaded meta data with 39 key-value pairs and 434 tensors from m.gguf (version GGUF V3 (latest))
load_tensors: offloaded 33/33 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   410.98 MiB
load_tensors:  CUDA0_Split model buffer size =  4000.00 MiB
llama_context: n_seq_max     = 4
llama_context: n_ctx_per_seq = 4096
llama_context: flash_attn    = 1
init:      CUDA0 KV buffer size =   512.00 MiB
llama_context:      CUDA0 compute buffer size =   300.75 MiB
llama_context: graph splits = 2
"""


def test_wordings_of_2024_are_read() -> None:
    (model,) = parse_load_report(OF_2024.splitlines()).models
    assert [shown_buffer(one) for one in model.buffers] == [
        "CPU weights 1640.62",
        "CUDA0 weights 5434.38",
        "CUDA0 state 1536.00",
        "CPU output 1.95",
        "CUDA0 compute 672.01",
    ]
    assert (model.offloaded_layers, model.has_flash_attention, model.graph_splits) == (41, False, 2)


def test_wordings_of_2025_are_read() -> None:
    report = parse_load_report(OF_2025.splitlines())
    (model,) = report.models
    assert report.devices == ("CUDA0",)
    assert model.bytes_on("CUDA0", BufferKind.WEIGHTS) == 4000 * MIB
    assert (model.has_flash_attention, model.slot_context_tokens) == (True, 4096)


@pytest.mark.parametrize(
    ("line", "splits"),
    [
        ("sched_reserve: graph splits = 63 (with bs=512), 181 (with bs=1)", 181),
        (
            "sched_reserve: graph (pp bs=512, tg bs=1): nodes = 936 / 937, splits = 123 / 2, input objects = 4 / 4, "
            "input tensors = 6 / 6",
            2,
        ),
        ("sched_reserve: graph: nodes = 936, splits = 1, input objects = 4, input tensors = 6", 1),
    ],
)
def test_the_splits_of_one_token_are_the_ones_that_count(line: str, splits: int) -> None:
    (model,) = parse_load_report(["x:  CPU model buffer size = 1.00 MiB", line]).models
    assert model.graph_splits == splits


@pytest.mark.parametrize(
    ("line", "is_on"),
    [
        ("llama_context: Flash Attention was auto, set to enabled", True),
        ("resolve_fused_ops: Flash Attention enabled", True),
        ("llama_context: Flash Attention was auto, set to disabled", False),
        ("llama_init_from_model: flash_attn is not compatible with Grok - forcing off", False),
        ("llama_context: flash_attn    = auto", None),
    ],
)
def test_what_becomes_of_flash_attention_is_read(line: str, is_on: bool | None) -> None:
    (model,) = parse_load_report(["x:  CPU model buffer size = 1.00 MiB", line]).models
    assert model.has_flash_attention is is_on


def test_a_context_that_takes_its_buffers_anew_has_them_once() -> None:
    again = "sched_reserve:      CUDA0 compute buffer size =    {} MiB"
    lines = ["llama_context: n_seq_max     = 1", again.format("20.00"), again.format("24.00")]
    assert parse_load_report(lines).total_bytes() == {"CUDA0": 24 * MIB}
    assert parse_load_report([*lines, *lines]).total_bytes() == {"CUDA0": 48 * MIB}


def test_state_of_other_kinds_follows_its_layers_and_adapters_are_apart() -> None:
    (model,) = parse_load_report(
        [
            "llama_memory_recurrent:      CUDA0 RS buffer size =     1.00 MiB",
            "llama_kv_cache_dsv4:      CUDA0 DSV4 csa state buffer size =     2.00 MiB",
            "llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =     4.00 MiB",
        ]
    ).models
    assert model.bytes_on("CUDA0", BufferKind.STATE) == 3 * MIB
    assert model.bytes_on("CUDA0", BufferKind.OTHER) == 4 * MIB


def test_a_projector_is_counted_where_it_is() -> None:
    # Its buffers are measured once before the model is loaded, and taken once after.
    compute = "alloc_compute_meta:      CUDA1 compute buffer size =    10.00 MiB"
    report = parse_load_report(
        [
            compute,
            "llama_model_loader: loaded meta data with 1 key-value pairs and 1 tensors from m.gguf (version 3)",
            "load_tensors:        CUDA0 model buffer size =    92.17 MiB",
            "clip_ctx: CLIP using CUDA1 backend",
            "load_hparams: model size:         100.00 MiB",
            compute,
        ]
    )
    assert [shown_buffer(one) for one in report.projector] == ["CUDA1 weights 100.00", "CUDA1 compute 10.00"]
    assert report.total_bytes()["CUDA1"] == 110 * MIB
    assert len(report.models) == 1


@pytest.mark.parametrize(
    ("buffer", "device"),
    [
        ("CUDA0", "CUDA0"),
        ("CUDA0_Split", "CUDA0"),
        ("CUDA_Host", "CPU"),
        ("CPU_Mapped", "CPU"),
        ("CPU_REPACK", "CPU"),
        ("BLAS", "CPU"),
        ("Vulkan_Host", "CPU"),
        ("MTL0_Mapped", "MTL0"),
        ("RPC0[127.0.0.1:50052]", "RPC0"),
    ],
)
def test_buffers_go_by_several_names(buffer: str, device: str) -> None:
    assert device_of(buffer) == device


@given(st.lists(st.text(max_size=40) | st.sampled_from([line for case in CASES for line in lines_of(case)])))
def test_any_text_can_be_read(lines: list[str]) -> None:
    report = parse_load_report(lines)
    assert all(size_bytes >= 0 for size_bytes in report.total_bytes().values())
