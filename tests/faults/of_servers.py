"""llama-servers that are killed, that hang, that do not start: what their clients notice."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.faults.asking import Kind, Tally, crowd_of, mixed_up
from tests.faults.findings import Fault, Findings
from tests.faults.site import SMALL, SPARE, Site, until

DETECTED_S = 2.0
"""FR-4: a target that has failed is known to have within so long."""
LATE_S = 1.0
"""What a busy machine may add to a deadline that is measured from outside."""
LET_GO_S = 0.5
SLOW_STEP_S = 2.0
"""llama-server looks for clients that have left between two steps; one with 32 streams takes long on two cores."""
MOST_STARTS = 5


async def killed_before_the_first_byte(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        site.send(SMALL, signal.SIGSTOP)  # so that nothing of an answer comes before it is killed
        crowd = crowd_of(web, site.scale.clients)
        await until(lambda: in_flight(site, "small-cpu_only"), 10, "requests under way")
        pid = site.send(SMALL, signal.SIGKILL)
        tally = await crowd.ended()
    findings.account(tally)
    findings.check(tally.answered == len(tally.endings), "not all were answered")
    findings.check(mixed_up(crowd, tally) == 0, "an answer was another's")
    await restarted(site, findings, pid)


async def killed_with_no_other(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        site.send(SMALL, signal.SIGSTOP)
        crowd = crowd_of(web, site.scale.clients, model="small")
        await until(lambda: in_flight(site, "small-cpu_only"), 10, "requests under way")
        pid = site.send(SMALL, signal.SIGKILL)
        tally = await crowd.ended()
    findings.account(tally)
    findings.check(tally.answered == len(tally.endings), "not all were answered")
    await restarted(site, findings, pid)


async def killed_mid_stream(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.clients, tokens=200, is_stream=True, model="small")
        await until(lambda: crowd.begun == len(crowd.tasks), 60, "all streams under way")
        pid = site.send(SMALL, signal.SIGKILL)
        tally = await crowd.ended()
    findings.account(tally)
    broken_streams(findings, tally)
    await restarted(site, findings, pid)


async def hung_before_the_first_byte(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        pid = site.send(SMALL, signal.SIGSTOP)
        begun = time.monotonic()
        crowd = crowd_of(web, site.scale.clients)
        await until(lambda: is_given_up(site, "small-cpu_only"), 20, "the hung server to be given up")
        known_s = time.monotonic() - begun
        tally = await crowd.ended()
    findings.account(tally)
    findings.note(f"known after {known_s:.1f} s")
    findings.check(known_s <= DETECTED_S + LATE_S, f"it was known only after {known_s:.1f} s")
    findings.check(tally.answered == len(tally.endings), "not all were answered")
    await restarted(site, findings, pid)


async def hung_mid_stream(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.clients, tokens=120, is_stream=True, model="small")
        await until(lambda: crowd.begun >= 8, 60, "streams under way")
        pid = site.send(SMALL, signal.SIGSTOP)
        begun = time.monotonic()
        await until(lambda: is_given_up(site, "small-cpu_only"), 20, "the hung server to be given up")
        known_s = time.monotonic() - begun
        tally = await crowd.ended()
    findings.account(tally)
    findings.note(f"known after {known_s:.1f} s")
    findings.check(known_s <= DETECTED_S + LATE_S, f"it was known only after {known_s:.1f} s")
    broken_streams(findings, tally)
    await restarted(site, findings, pid)


async def clients_leave(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.clients, tokens=300, is_stream=True)
        await until(lambda: crowd.begun == len(crowd.tasks), 60, "all streams under way")
        busy = await slots_at_work(site)
        begun = time.monotonic()
        await crowd.leave()
        await until(lambda: is_idle(site, "small-cpu_only"), 10, "the router to let go")
        let_go_s = time.monotonic() - begun
        await until(lambda: are_all_free(site), 20, "all slots to be free")
        free_s = time.monotonic() - begun
    findings.note(f"{busy} slots at work; the router let go after {let_go_s:.2f} s, all free after {free_s:.2f} s")
    findings.check(busy == len(crowd.tasks), "not all streams had a slot")
    findings.check(let_go_s <= LET_GO_S, f"the router let go only after {let_go_s:.1f} s")
    findings.check(free_s <= LET_GO_S + SLOW_STEP_S, f"slots were free only after {free_s:.1f} s")


async def port_taken(site: Site, findings: Findings) -> None:
    site.modelctl("stop", "spare")
    starts = site.starts(SPARE)
    with socket.create_server(("127.0.0.1", site.spare)):
        async with site.web() as web:
            named = await crowd_of(web, site.scale.clients, model="spare").ended()
            others = await crowd_of(web, site.scale.clients).ended()
    others_served(findings, named, others)
    findings.check(b"bind" in named.endings[0].data, "the refusal has not the last lines of the log")
    starts = site.starts(SPARE) - starts
    findings.note(f"{starts} starts")
    findings.check(starts <= MOST_STARTS, "it is started again and again")
    site.modelctl("start", "spare")


async def weights_cut_short(site: Site, findings: Findings) -> None:
    await weights_broken(site, findings, lambda whole: whole[: 2 * 2**20])


async def weights_of_no_kind(site: Site, findings: Findings) -> None:
    await weights_broken(site, findings, lambda whole: b"GGML" + whole[4:])


async def weights_broken(site: Site, findings: Findings, harm: Callable[[bytes], bytes]) -> None:
    """Start `spare` with other bytes than those that were checked when they were placed."""
    site.modelctl("stop", "spare")
    starts = site.starts(SPARE)
    weights = next((site.root / "var/lib/llama-models/spare").rglob("*.gguf"))
    whole = weights.read_bytes()
    replace(weights, harm(whole))
    try:
        async with site.web() as web:
            named = await crowd_of(web, site.scale.clients, model="spare").ended()
            again = await crowd_of(web, site.scale.clients, model="spare").ended()
            others = await crowd_of(web, site.scale.clients).ended()
    finally:
        replace(weights, whole)
    others_served(findings, named, others)
    findings.account(again)
    findings.check(again.only(Kind.REFUSED), "the second time a request for the model was not refused")
    findings.check(b"wrote last" in named.endings[0].data, "the refusal has not the last lines of the log")
    starts = site.starts(SPARE) - starts
    findings.note(f"{starts} starts")
    findings.check(starts <= MOST_STARTS, "it is started again and again")
    site.modelctl("start", "spare")


async def never_ready(site: Site, findings: Findings) -> None:
    site.modelctl("stop", "spare")
    pids: list[int] = []
    async with site.web() as web:
        named = crowd_of(web, site.scale.clients, model="spare")
        freezing = asyncio.create_task(freeze(site, SPARE, pids))
        others = await crowd_of(web, site.scale.clients).ended()
        refused = await named.ended()
        freezing.cancel()
    others_served(findings, refused, others)
    findings.note(f"{len(pids)} processes were started")
    await until(lambda: not any(is_alive(pid) for pid in pids), 40, "its processes to be gone")
    site.modelctl("start", "spare")


# What they have in common.


async def restarted(site: Site, findings: Findings, pid: int) -> None:
    """See that a unit comes back in another process, and only once."""
    took_s = await site.heal()
    findings.note(f"well again {took_s:.1f} s later")
    findings.check(site.pid(SMALL) not in (0, pid), "it was not restarted")
    findings.check(len(site.servers()) == 2, f"{len(site.servers())} llama-servers run")


def broken_streams(findings: Findings, tally: Tally) -> None:
    """Streams that broke off were told so; those that waited were answered, or refused with a reason."""
    findings.check(tally.only(Kind.ANSWERED, Kind.TOLD, Kind.REFUSED), "a stream ended without an error event")
    findings.check(tally.kinds[Kind.TOLD] > 0, "no stream was broken off")
    ends = [one for one in tally.endings if one.kind is Kind.TOLD]
    findings.check(not any(b"[DONE]" in one.data for one in ends), "a broken stream says that it is whole")
    findings.check(tally.kinds[Kind.REFUSED] == 0, "one that waited was not answered")


async def in_flight(site: Site, instance: str) -> bool:
    about = await site.about(instance)
    waiting = int(about.get("active_requests", 0)) + int(about.get("queued_requests", 0))
    return bool(about.get("active_requests", 0) and waiting >= site.scale.clients)


async def is_given_up(site: Site, instance: str) -> bool:
    return await site.status(instance) not in ("healthy", "suspect")


async def is_idle(site: Site, instance: str) -> bool:
    return (await site.about(instance)).get("active_requests") == 0


async def slots_at_work(site: Site) -> int:
    """Count the slots of both servers that generate."""
    count = 0
    async with httpx.AsyncClient(timeout=30) as web:
        for port in (site.small, site.spare):
            slots = (await web.get(f"http://127.0.0.1:{port}/slots")).json()
            count += sum(slot["is_processing"] for slot in slots)
    return count


async def are_all_free(site: Site) -> bool:
    return await slots_at_work(site) == 0


def replace(file: Path, data: bytes) -> None:
    """Put other bytes in a file's place."""
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(data)
    fresh.replace(file)


async def freeze(site: Site, unit: str, pids: list[int]) -> None:
    """Stop each process of a unit as soon as it is there."""
    while True:
        pid = site.pid(unit)
        if pid and pid not in pids:
            pids.append(pid)
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.005)  # the pause between two looks for a process to stop


def others_served(findings: Findings, named: Tally, others: Tally) -> None:
    """Whoever asked for the model itself was refused, and whoever asked for a purpose was served."""
    findings.account(named)
    findings.account(others)
    findings.check(named.only(Kind.REFUSED), "a request for the model itself was not refused")
    findings.check(others.answered == len(others.endings), "not all others were answered")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


FAULTS = (
    Fault("1", "llama-server killed, nothing answered yet", "another candidate answers, nobody notices",
          killed_before_the_first_byte, is_quick=True),
    Fault("1b", "the same, and no other serves the model", "all wait for the restart and are answered",
          killed_with_no_other),
    Fault("2", "llama-server killed while it streams", "each stream ends in an error event, none silently; restarted",
          killed_mid_stream, is_quick=True),
    Fault("3", "llama-server hangs (SIGSTOP), nothing answered yet", "known within 2 s, another answers; restarted",
          hung_before_the_first_byte, is_quick=True),
    Fault("4", "llama-server hangs while it streams", "known within 2 s, each stream ends in an error event",
          hung_mid_stream),
    Fault("10", "all clients leave while they are streamed to", "all slots free within 0.5 s",
          clients_leave, is_quick=True),
    Fault("11", "llama-server never becomes ready", "given up with its time, no process left; others serve",
          never_ready),
    Fault("12", "its port is taken by a stranger", "refused with the reason, no loop; others serve", port_taken),
    Fault("13", "weights cut short", "refused with the log's last lines, not tried again; others serve",
          weights_cut_short),
    Fault("13b", "weights that are no GGUF (another magic number)", "the same", weights_of_no_kind),
)  # fmt: skip
