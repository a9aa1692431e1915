"""HTTP hops to compare, each as a process before one upstream that costs almost nothing, and load on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from kloros_infra.ir.routing import RoutedBridge, RoutedBus, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream

HOP_CORE, LOAD_CORE = 0, 1
PARALLEL = 512
"""So many requests are let through at a time: what is measured is the hop, not its line."""
UPSTREAM_SOURCE = Path(__file__).with_name("http_upstream.c")
LITELLM = "1.106.2"
KEY = "sk-6f1c0d7a9be34f5582aa17c3d0e4b8f9"
"""LiteLLM does not start without a key."""
START_S = 90.0
BODY = (
    '{"model":"small","stream":STREAM,"max_tokens":64,"temperature":0.2,"messages":[{"role":"system","content":'
    '"You are a code analysis expert."},{"role":"user","content":"Explain what this function does and how long '
    'it takes for large inputs: def f(x): return x*2"}]}'
)
WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer KEY"
wrk.body = [[BODY]]
"""
NGINX_CONF = """
worker_processes 1; daemon off; pid FOLDER/pid; error_log FOLDER/error.log crit; worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; tcp_nodelay on; client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  upstream u { server 127.0.0.1:UPSTREAM; keepalive 512; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=1024;
    location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """A server that listens; without a pid it is the upstream itself, which costs nothing here."""

    name: str
    port: int
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one load run showed."""

    requests_per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True, slots=True)
class Runs:
    """What all runs of one load on one hop showed; of each figure the run counts that was disturbed least."""

    runs: list[Figures] = field(default_factory=list)

    @property
    def best(self) -> Figures:
        # A slow hop may end a run before its first answer: that tells nothing of how long it takes.
        runs = [run for run in self.runs if run.requests_per_s > 0] or self.runs
        return Figures(
            max(run.requests_per_s for run in runs),
            min(run.cpu_us for run in runs),
            min(run.p50_ms for run in runs),
            min(run.p99_ms for run in runs),
            max(run.errors for run in self.runs),
        )


def a_free_port() -> int:
    """Find a port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str], port: int, core: int, *, more: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[int]:
    """Run a server on one core until its port answers; give its pid."""
    with (log or Path(os.devnull)).open("ab") as written:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(more or {})},
            stdout=written,
            stderr=written,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - nothing else runs here
        )
    try:
        _await_port(process, port, command[0])
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)


def _await_port(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{name} does not listen on {port}")
        time.sleep(0.005)  # the pause between two polls of a condition with a deadline


@contextmanager
def an_idle_upstream(folder: Path, *, pace_ms: int | None = None) -> Iterator[Hop]:
    """Compile and run the upstream; between the events of its streams it waits, if it is paced."""
    program = folder / "upstream"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", program, UPSTREAM_SOURCE], check=True)
    port = a_free_port()
    pace = [] if pace_ms is None else [str(pace_ms)]
    with running([str(program), *pace, str(port)], port, LOAD_CORE):
        yield Hop("direct", port)


@contextmanager
def nginx(folder: Path, upstream: Hop) -> Iterator[Hop]:
    """Run nginx as the peer that ratios are to."""
    port = a_free_port()
    place = folder / f"nginx-{port}"
    place.mkdir()
    values = {"FOLDER": str(place), "UPSTREAM": str(upstream.port), "PORT": str(port)}
    conf = place / "nginx.conf"
    conf.write_text(re.sub("|".join(values), lambda found: values[found[0]], NGINX_CONF))
    with running(["nginx", "-c", str(conf)], port, HOP_CORE) as pid:
        yield Hop("nginx", port, pid)


def a_table(folder: Path, upstream: Hop, port: int) -> RoutingTable:
    """Route to the upstream alone; the bus has nobody on it."""
    bus = RoutedBus(xsub=f"ipc://{folder}/in", xpub=f"ipc://{folder}/out")
    model = a_routed_model("small", an_upstream(port=upstream.port, parallel=PARALLEL))
    bridge = RoutedBridge(host="127.0.0.1", ports=(port,))
    return a_routing_table(model, bridge=bridge, bus=bus, profile_file=str(folder / "profile"))


def router_command(folder: Path, upstream: Hop, port: int) -> list[str]:
    """Write a routing table; give the command that runs the router by it."""
    routing = folder / f"routing-{port}.json"
    routing.write_text(a_table(folder, upstream, port).model_dump_json())
    (folder / "profile").write_text("cpu_only\n")
    return [sys.executable, "-m", "kloros_infra", "router", "--routing", str(routing), "--log-level", "error"]


@contextmanager
def kloros_infra(folder: Path, upstream: Hop) -> Iterator[Hop]:
    """Run this project's router, as its unit does."""
    port = a_free_port()
    with running(router_command(folder, upstream, port), port, HOP_CORE, log=folder / "router.log") as pid:
        yield Hop("kloros-infra", port, pid)


@contextmanager
def litellm(folder: Path, upstream: Hop) -> Iterator[Hop]:
    """Run LiteLLM's proxy with one worker."""
    port, config = a_free_port(), folder / "litellm.json"
    target = {"model": "openai/small", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "small", "litellm_params": target}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    config.write_text(json.dumps(settings))
    command = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(command, port, HOP_CORE, more=local, log=folder / "litellm.log") as pid:
        yield Hop("LiteLLM", port, pid)


@contextmanager
def llama_swap(folder: Path, upstream: Hop) -> Iterator[Hop]:
    """Run llama-swap with the upstream as a model that is up already."""
    port, config = a_free_port(), folder / "llama-swap.json"
    model = {"cmd": "sleep 3600", "proxy": f"http://127.0.0.1:{upstream.port}", "concurrencyLimit": PARALLEL}
    config.write_text(json.dumps({"models": {"small": model}, "logLevel": "error"}))
    command = ["llama-swap", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    with running(command, port, HOP_CORE, more={"GOMAXPROCS": "1"}, log=folder / "llama-swap.log") as pid:
        yield Hop("llama-swap", port, pid)


PEERS = {"litellm": litellm, "llama-swap": llama_swap}


def peers_here() -> list[str]:
    """Name the peers beside nginx that are on the PATH."""
    return [name for name in PEERS if shutil.which(name) is not None]


def versions() -> str:
    """Say what is measured with what."""
    nginx_version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")
    python = ".".join(map(str, sys.version_info[:3]))
    here = f"Python {python}, uvloop {version('uvloop')}, httptools {version('httptools')}"
    return f"{here}, nginx {nginx_version[2].strip()}"


def cpu_s(pid: int) -> float:
    """Add up the CPU seconds of a process and its children that are alive."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


def memory_mb(pid: int) -> float:
    """Give the memory that a process holds (VmRSS, proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def script(folder: Path, *, is_stream: bool = False, pause_ms: int = 0) -> Path:
    """Write what wrk is to ask for; each of its connections pauses before every request."""
    body = BODY.replace("STREAM", "true" if is_stream else "false")
    path = folder / f"{'stream' if is_stream else 'answer'}-{pause_ms}.lua"
    pause = f"function delay() return {pause_ms} end" if pause_ms else ""
    path.write_text(WRK_SCRIPT.replace("BODY", body).replace("KEY", KEY) + pause)
    return path


def load(hop: Hop, asked: Path, connections: int, duration_s: int) -> Figures:
    """Run wrk once."""
    url = f"http://127.0.0.1:{hop.port}"
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "--latency"]
    before = cpu_s(hop.pid) if hop.pid else 0.0
    run = subprocess.run([*command, "--timeout", "30s", "-s", asked, url], capture_output=True, text=True, check=True)
    spent, out = (cpu_s(hop.pid) - before if hop.pid else 0.0), run.stdout
    requests = max(int(re.findall(r"(\d+) requests in", out)[0]), 1)
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    failed = re.findall(r"Non-2xx or 3xx responses: (\d+)", out) + re.findall(
        r"(?:connect|read|write|timeout) (\d+)", out
    )
    errors = sum(map(int, failed))
    return Figures(rate, spent / requests * 1e6, _percentile(out, 50), _percentile(out, 99), errors)


def _percentile(out: str, percent: int) -> float:
    value, unit = re.findall(rf"{percent}%\s+([\d.]+)(us|ms|s)", out)[0]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
