"""What becomes of a tool that does not answer, and what it is shown."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.header_gguf import write_header
from kloros_infra.adapters.tensor_overrider import TensorOverrider
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.overrider_record import OverriderQuestion, ShownCard
from kloros_infra.placement.overrider_question import question_of
from tests.factories import a_gguf_header
from tests.overrider_cases import an_overridden

ANSWER = '-ngl 0 -ot "output.weight=CUDA0"'


def a_tool(folder: Path, text: str, *, timeout_s: float = 20.0) -> TensorOverrider:
    """Write a program in Python, and give what asks it."""
    program = folder / "tool.py"
    program.write_text(text)
    return TensorOverrider([sys.executable, str(program)], timeout_s=timeout_s)


def a_question() -> OverriderQuestion:
    question = question_of(an_overridden(a_gguf_header()))
    return replace(question, cards=(ShownCard("NVIDIA GeForce RTX 3060", 11906, 0.9), ShownCard("other", 8000, 0.55)))


def asked(tool: TensorOverrider, folder: Path, question: OverriderQuestion | None = None) -> str:
    return tool.answer(question or a_question(), [write_header(a_gguf_header(), folder / "model.gguf")])


def refused(tool: TensorOverrider, folder: Path) -> Diagnostic:
    with pytest.raises(UnreachableError) as caught:
        asked(tool, folder)
    (problem,) = caught.value.problems
    assert problem.code == "KI427"
    return problem


def test_it_is_shown_the_cards_of_the_profile_and_told_what_may_be_filled(tmp_path: Path) -> None:
    tool = a_tool(
        tmp_path,
        f"""
import json, subprocess, sys
call = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader"]
cards = subprocess.run(call, check=True, capture_output=True, text=True).stdout
other = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
json.dump([sys.argv[1:], cards, other.returncode, other.stderr], open({str(tmp_path / "seen.json")!r}, "w"))
print({ANSWER!r})
""",
    )
    question = replace(a_question(), context_tokens=8192, cache_type_k=KvType.Q8_0, cache_type_v=KvType.Q4_0)

    assert asked(tool, tmp_path, question) == ANSWER

    arguments, cards, status, log = json.loads((tmp_path / "seen.json").read_text())
    assert cards == "0, NVIDIA GeForce RTX 3060, 11906 MiB\n1, other, 8000 MiB\n"
    assert (status, "is answered here" in log) == (1, True)
    assert arguments[0] == "--gguf-url"
    assert arguments[1].startswith("http://127.0.0.1:")
    assert arguments[2:] == [
        *("--context-length", "8192"),
        *("--context-quantization-size", "8"),
        *("--granular-gpu-percentage", "0.9,0.55"),
        "--no-check",
    ]


@pytest.mark.parametrize(
    ("keys", "values", "bits"),
    [("f16", "f16", "16"), ("q4_0", "iq4_nl", "4"), ("q5_1", "q4_0", "8"), ("f32", "q8_0", "16")],
)
def test_keys_and_values_count_with_the_larger_of_their_bits(tmp_path: Path, keys: str, values: str, bits: str) -> None:
    tool = a_tool(tmp_path, "import sys; print(f'-ot \"{sys.argv[6]}=CPU\"')")
    question = replace(a_question(), cache_type_k=KvType(keys), cache_type_v=KvType(values))

    assert asked(tool, tmp_path, question) == f'-ot "{bits}=CPU"'


def test_an_error_is_told_with_what_it_wrote_last(tmp_path: Path) -> None:
    tool = a_tool(tmp_path, "import sys; sys.exit('Error: no room\\n    at main (index.ts:1:2)')")

    problem = refused(tool, tmp_path)

    assert "ended with 1" in problem.detail
    assert problem.detail.endswith("\n    | Error: no room")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("print('one'); print('two')", "printed 2 lines instead of one"),
        ("", "printed 0 lines instead of one"),
        ("print('hello')", "printed what is not understood: 'hello' is none of the options"),
        (r"import sys; sys.stdout.buffer.write(b'\xff\xfe')", "printed what is not understood"),
        ("print('-ngl 0')", "it puts no tensor anywhere"),
    ],
)
def test_what_it_prints_must_be_an_answer(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refused(a_tool(tmp_path, text), tmp_path).detail


def test_it_is_ended_with_all_that_it_started_when_it_takes_too_long(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    # What it starts in the background has the pipe open for as long as it is there.
    script = f"(exec 9>{fifo}; echo started >&9; sleep 600) & sleep 600"

    problem = refused(TensorOverrider(["sh", "-c", script], timeout_s=1.0), tmp_path)

    assert "has not answered for 1 s" in problem.detail
    assert os.read(reader, 100) == b"started\n"
    assert is_closed(reader)
    os.close(reader)


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = f"sleep 600 9>{fifo} & echo '{ANSWER}'"
    began = time.monotonic()

    assert asked(TensorOverrider(["sh", "-c", script], timeout_s=50), tmp_path) == ANSWER

    assert time.monotonic() - began < 20, "it has answered although something of it holds the pipe"
    assert is_closed(reader)
    os.close(reader)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_it_prints_without_end_is_not_kept(tmp_path: Path, stream: str) -> None:
    tool = a_tool(tmp_path, f"import sys\nwhile True: sys.{stream}.write('x' * 65536)", timeout_s=2.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    problem = refused(tool, tmp_path)

    expected = "printed more than 4 MiB" if stream == "stdout" else "has not answered for 2 s"
    assert expected in problem.detail
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "in KiB, getrusage(2)"


def test_the_end_of_its_log_is_told_however_long_it_is(tmp_path: Path) -> None:
    tool = a_tool(tmp_path, "import sys; sys.exit('x\\n' * 10**6 + 'no room')")

    assert refused(tool, tmp_path).detail.endswith("| no room")


def is_closed(reader: int) -> bool:
    """Say whether nobody can write to a pipe any more, or will soon be able to."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            return os.read(reader, 100) == b""
        except BlockingIOError:
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
    return False


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    tool = TensorOverrider([str(tmp_path / "absent"), "--flag"])

    with pytest.raises(UnreachableError) as caught:
        tool.version()

    assert f"{tmp_path}/absent --flag cannot be run: No such file" in caught.value.problems[0].detail


def test_a_type_that_nobody_knows_cannot_be_written(tmp_path: Path) -> None:
    header = a_gguf_header()
    odd = replace(header, tensors=(replace(header.tensors[0], type="Q99"),))

    with pytest.raises(ValueError, match=f"the type Q99 of {header.tensors[0].name}"):
        write_header(odd, tmp_path / "m.gguf")
