"""Measure what one HTTP hop costs: CPU time per request of the bridge, with nginx as the peer.

Needs wrk, nginx and a C compiler (Debian: wrk, nginx-light, gcc). The hop runs on the first core,
load and upstream on the second. Prints a Markdown table; ratios are to nginx in the same run:

    python -m benchmarks.http_hop
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.upstream import UpstreamPool
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import a_desk

HOP_CORE, LOAD_CORE = 0, 1
PARALLEL = 512
"""So many requests are let through at a time: what is measured is the hop, not its line."""
NEEDED = ("wrk", "nginx", "cc")
UPSTREAM_SOURCE = Path(__file__).with_name("http_upstream.c")
BODY = (
    '{"model":"small","stream":STREAM,"max_tokens":64,"temperature":0.2,"messages":[{"role":"system","content":'
    '"You are a code analysis expert."},{"role":"user","content":"Explain what this function does and how long '
    'it takes for large inputs: def f(x): return x*2"}]}'
)
WRK_SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
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
class Figures:
    """What one load run showed."""

    requests_per_s: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float


async def run_bridge(port: int, upstream_port: int) -> None:
    """Serve until killed."""
    upstream = an_upstream(port=upstream_port, parallel=PARALLEL)
    desk, _ = a_desk(a_routing_table(a_routed_model("small", upstream)), SystemClock())
    async with serve(desk, UpstreamPool(), host="127.0.0.1", ports=(port,)):
        await asyncio.Event().wait()


def a_free_port() -> int:
    """Find a port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, core: int) -> Iterator[int]:
    """Run a server on one core until its port answers; give its pid."""
    process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {core}))  # noqa: PLW1509 - nothing else runs here
    try:
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not listen on {port}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def cpu_s(pid: int) -> float:
    """Add up the CPU seconds of a process and its children that are alive."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


def load(port: int, script: Path, connections: int, duration_s: int, pid: int | None) -> Figures:
    """Run wrk once."""
    url = f"http://127.0.0.1:{port}"
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "--latency"]
    before = cpu_s(pid) if pid else 0.0
    out = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=True).stdout
    spent = cpu_s(pid) - before if pid else 0.0
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    requests = int(re.findall(r"(\d+) requests in", out)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    return Figures(rate, spent / requests * 1e6, _percentile(out, 50), _percentile(out, 99))


def _percentile(out: str, percent: int) -> float:
    value, unit = re.findall(rf"{percent}%\s+([\d.]+)(us|ms|s)", out)[0]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def measure(folder: Path, rounds: int, duration_s: int) -> list[str]:
    """Run both hops against both kinds of answer; give the rows."""
    upstream_port, nginx_port, bridge_port = a_free_port(), a_free_port(), a_free_port()
    program = folder / "upstream"
    subprocess.run(["cc", "-O2", "-o", program, UPSTREAM_SOURCE], check=True)
    conf = folder / "nginx.conf"
    values = {"FOLDER": str(folder), "UPSTREAM": str(upstream_port), "PORT": str(nginx_port)}
    conf.write_text(re.sub("|".join(values), lambda found: values[found[0]], NGINX_CONF))
    bridge = [sys.executable, "-m", "benchmarks.http_hop", "--serve", str(bridge_port), str(upstream_port)]
    rows = []
    with (
        running([str(program), str(upstream_port)], upstream_port, LOAD_CORE),
        running(["nginx", "-c", str(conf)], nginx_port, HOP_CORE) as nginx_pid,
        running(bridge, bridge_port, HOP_CORE) as bridge_pid,
    ):
        for kind, stream, connections in (("answer", "false", 32), ("answer", "false", 256), ("stream", "true", 32)):
            script = folder / f"{kind}.lua"
            script.write_text(WRK_SCRIPT.replace("BODY", BODY.replace("STREAM", stream)))

            def best(port: int, pid: int | None, script: Path = script, connections: int = connections) -> Figures:
                return _best(lambda: load(port, script, connections, duration_s, pid), rounds)

            direct = best(upstream_port, None)
            nginx, ours = best(nginx_port, nginx_pid), best(bridge_port, bridge_pid)
            rows += [
                _row(f"{kind}, {connections} clients", name, figures, direct, nginx)
                for name, figures in (("nginx", nginx), ("bridge", ours))
            ]
    return rows


def _best(run: Callable[[], Figures], rounds: int) -> Figures:
    """Take the round that was disturbed least."""
    return min((run() for _ in range(rounds)), key=lambda figures: (figures.cpu_us_per_request, figures.p50_ms))


def _row(load_name: str, hop: str, figures: Figures, direct: Figures, nginx: Figures) -> str:
    cells = (
        load_name,
        hop,
        f"{figures.cpu_us_per_request:.1f}",
        f"{figures.cpu_us_per_request / nginx.cpu_us_per_request:.2f}",
        f"{figures.requests_per_s:.0f}",
        f"{figures.p50_ms - direct.p50_ms:+.2f}",
        f"{figures.p99_ms - direct.p99_ms:+.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print, or be the bridge that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs per row; the best counts")
    parser.add_argument("--seconds", type=int, default=4, help="length of a run")
    parser.add_argument("--serve", type=int, nargs=2, metavar=("PORT", "UPSTREAM_PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        import uvloop  # noqa: PLC0415 - only the process that is measured needs it

        uvloop.run(run_bridge(*arguments.serve))
        return
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"not found: {', '.join(missing)} (Debian: apt-get install wrk nginx-light gcc)")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.rounds, arguments.seconds)
    head = ("load", "hop", "CPU µs/request", "ratio", "requests/s", "p50 added ms", "p99 added ms")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
