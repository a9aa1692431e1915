"""What gguf-tensor-overrider does, as far as we count on it: the stand-in of the tests, and the real one.

The real one is asked where it is installed: KLOROS_TENSOR_OVERRIDER names it word by word, as
hosts.<name>.tensor_overrider does, or it is on PATH as gguf-tensor-overrider.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.header_gguf import write_header
from kloros_infra.adapters.range_server import serving
from kloros_infra.adapters.tensor_overrider import TensorOverrider
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.overrider_record import OverriderQuestion, ShownCard
from kloros_infra.placement.overrider_output import parse_output, tensor_names
from kloros_infra.placement.overrider_question import question_of
from tests.fakes.sparse_gguf import SparseModel, write_sparse_gguf
from tests.overrider_cases import HEADERS, SHOWN_MIB, an_overridden, every_tensor, output_of

STAND_IN = (sys.executable, str(Path(__file__).parents[1] / "fakes" / "tensor_overrider.py"))
RECORDED = "qwen25-coder-7b-q4_0"


def the_real_one() -> tuple[str, ...]:
    named = os.environ.get("KLOROS_TENSOR_OVERRIDER", "")
    on_path = shutil.which("gguf-tensor-overrider")
    return tuple(shlex.split(named)) or ((on_path,) if on_path else ())


INSTALLED = {"stand-in": STAND_IN} | ({"real": the_real_one()} if the_real_one() else {})


@pytest.fixture(params=INSTALLED)
def words(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the words that run it: the real tool as well where this machine has it."""
    return INSTALLED[request.param]


@pytest.fixture
def tool(words: tuple[str, ...]) -> TensorOverrider:
    """Give what asks it."""
    return TensorOverrider(words)


def a_question(header: GgufHeader, *, memory_mib: Sequence[int] = SHOWN_MIB) -> OverriderQuestion:
    """Ask as the recorded outputs were asked for: with nvidia-smi's figures, and 0.9 of each card."""
    question = question_of(an_overridden(header))
    cards = tuple(ShownCard(f"card {index}", mib, 0.9) for index, mib in enumerate(memory_mib))
    return replace(question, cards=cards)


def a_small_model(*, type_: str = "Q4_0", head_count_kv: int = 4) -> SparseModel:
    """Build a model of two layers with experts."""
    rows: list[tuple[str, tuple[int, ...], str]] = [("token_embd.weight", (256, 1000), "Q4_0")]
    for layer in range(2):
        at = f"blk.{layer}."
        rows += [(f"{at}attn_norm.weight", (256,), "F32"), (f"{at}attn_q.weight", (256, 256), "Q4_0")]
        rows += [(f"{at}ffn_norm.weight", (256,), "F32"), (f"{at}ffn_gate_inp.weight", (256, 8), "F32")]
        rows += [(f"{at}ffn_{kind}_exps.weight", (256, 256, 8), type_) for kind in ("down", "gate", "up")]
    rows += [("output_norm.weight", (256,), "F32"), ("output.weight", (256, 1000), "Q6_K")]
    keys = {
        "block_count": 2,
        "embedding_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": head_count_kv,
        "context_length": 4096,
    }
    return SparseModel("qwen3moe", keys, tuple(rows), 1000)


def a_header(model: SparseModel) -> GgufHeader:
    rows = tuple(TensorGroup(name, type_, shape, 0) for name, shape, type_ in model.rows)
    return GgufHeader(model.architecture, 2, 256, 0, 4, (4, 4), 64, 64, 4096, 1000, rows)


def run(words: Sequence[str], *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the tool as it is, without what asks it in the project."""
    environment: Mapping[str, str] = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        [*words, *arguments], check=False, capture_output=True, text=True, env=environment, timeout=60
    )


def test_it_says_its_version(tool: TensorOverrider) -> None:
    assert tool.version() == "1.0.0"


def test_it_answers_for_a_header_as_it_did_for_the_weights(tool: TensorOverrider, tmp_path: Path) -> None:
    header = HEADERS[RECORDED]()
    file = write_header(header, tmp_path / "model.gguf")

    answer = tool.answer(a_question(header), [file])

    assert answer.startswith('-ngl 0 -ot "token_embd.weight=CPU" -ot "blk.0.')
    assert parse_output(answer) == parse_output(output_of(RECORDED))


def test_it_fills_cards_by_their_memory_and_one_kind_of_tensor_after_the_other(
    tool: TensorOverrider, tmp_path: Path
) -> None:
    """Of 4.5 MiB the cache takes 4, of which no name tells; a layer's experts are 288 KiB of each kind."""
    model = a_small_model()
    question = replace(a_question(a_header(model), memory_mib=(1, 5)), context_tokens=2048)

    found = parse_output(tool.answer(question, [write_sparse_gguf(model, tmp_path / "m.gguf")]))

    # What is named gate comes before norms, other experts and the output.
    assert {name: device for name, device in found.items() if "_exps" in name} == {
        "blk.0.ffn_gate_exps.weight": "CUDA1",
        "blk.1.ffn_gate_exps.weight": "CUDA0",
        "blk.0.ffn_down_exps.weight": "CUDA0",
        "blk.0.ffn_up_exps.weight": "CUDA0",
        "blk.1.ffn_down_exps.weight": "CPU",
        "blk.1.ffn_up_exps.weight": "CPU",
    }
    on_cpu = {name for name, device in found.items() if device == "CPU" and "_exps" not in name}
    assert on_cpu == {"token_embd.weight", "output.weight"}
    assert set(found) == {name for name, _, _ in every_tensor(a_header(model))}


def test_it_follows_the_parts_of_a_split_file(tool: TensorOverrider, tmp_path: Path) -> None:
    model = a_small_model()
    parts = [
        write_sparse_gguf(replace(model, rows=rows), tmp_path / f"m-{number:05}-of-00002.gguf")
        for number, rows in ((1, model.rows[:7]), (2, model.rows[7:]))
    ]

    found = parse_output(tool.answer(a_question(a_header(model)), parts))

    assert set(found) == set(tensor_names(a_header(model)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--check",), "error: unknown option '--check'"),
        (("--granular-gpu-percentage", "80,15,5"), "Invalid GPU percentage: 80. It should be a number between 0 and 1"),
        (("--granular-gpu-percentage", "0.9,-1"), "Invalid GPU percentage: -1. It should be a number between 0 and 1"),
        (("--context-quantization-size", "5"), "Context quantization size must be one of 4, 8, or 16."),
        (("--gpu-percentage", "0.9", "--granular-gpu-percentage", "0.9"), "You cannot use both --gpu-percentage and"),
        (("more",), "error: too many arguments. Expected 0 arguments but got 1."),
        (("-g",), "error: option '-g, --gguf-url <url>' argument missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_it_refuses_options(words: tuple[str, ...], arguments: tuple[str, ...], message: str) -> None:
    found = run(words, "-g", "http://127.0.0.1:9/m.gguf", "-c", "4096", *arguments)

    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr


@pytest.mark.parametrize("url", ["hf://owner/repository/m.gguf", "file:///tmp/m.gguf", "/tmp/m.gguf"])
def test_it_takes_web_addresses_only(words: tuple[str, ...], url: str) -> None:
    found = run(words, "-g", url, "-c", "4096")

    assert (found.returncode, found.stdout) == (1, "")
    assert "Access to local file is not enabled" in found.stderr


def test_it_needs_an_address_and_a_context(words: tuple[str, ...]) -> None:
    assert "GGUF URL is required." in run(words, "-c", "4096").stderr
    assert "Context length is required." in run(words, "-g", "http://127.0.0.1:9/m.gguf").stderr


def test_it_says_when_a_file_is_none(words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"hello, " * 100)
    with serving([file]) as server:
        found = run(words, "-g", server.url(file), "-c", "4096")

    assert (found.returncode, found.stdout) == (1, "")
    assert "not a valid gguf file" in found.stderr


def test_it_needs_nvidia_smi(words: tuple[str, ...], tmp_path: Path) -> None:
    file = write_sparse_gguf(a_small_model(), tmp_path / "m.gguf")
    program = shutil.which(words[0])
    assert program
    with serving([file]) as server:
        found = run((program, *words[1:]), "-g", server.url(file), "-c", "4096", path=str(tmp_path))

    assert found.returncode == 1
    assert "nvidia-smi" in found.stderr


def test_it_writes_more_lines_when_it_is_told_to(words: tuple[str, ...], tmp_path: Path) -> None:
    model = a_small_model()
    tool = TensorOverrider((*words, "--verbose"))

    with pytest.raises(UnreachableError) as caught:
        tool.answer(a_question(a_header(model)), [write_sparse_gguf(model, tmp_path / "m.gguf")])

    (problem,) = caught.value.problems
    assert problem.code == "KI427"
    assert "[INFO] " in problem.detail


def test_it_does_not_know_newer_types(tool: TensorOverrider, tmp_path: Path) -> None:
    model = a_small_model(type_="MXFP4")

    with pytest.raises(UnreachableError) as caught:
        tool.answer(a_question(a_header(model)), [write_sparse_gguf(model, tmp_path / "m.gguf")])

    (problem,) = caught.value.problems
    assert problem.code == "KI427"
    assert "Unsupported quantization type: 39" in problem.detail


def test_it_wants_a_share_for_each_card(words: tuple[str, ...], tmp_path: Path) -> None:
    model = a_small_model()
    tool = TensorOverrider((*words, "--granular-gpu-percentage", "0.9"))
    file = write_sparse_gguf(model, tmp_path / "m.gguf")
    question = a_question(a_header(model))

    # The last one counts.
    assert parse_output(tool.answer(question, [file]))

    shim = tmp_path / "nvidia-smi"
    shim.write_text("#!/bin/sh\nprintf '0, a, 100 MiB\\n1, b, 100 MiB\\n'\n")
    shim.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    with serving([file]) as server:
        found = run(words, "-g", server.url(file), "-c", "4096", "--granular-gpu-percentage", "0.9", path=path)
    assert (found.returncode, found.stdout) == (1, "")
    assert "Granular GPU percentages length (1) does not match number of GPUs (2)" in found.stderr
