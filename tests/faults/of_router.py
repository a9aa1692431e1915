"""A router that is killed, asked to end, given broken files, and left without descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kloros_infra.client import Addresses, Answer, AsyncClient, RefusedError
from tests.faults.asking import Kind, a_web, crowd_of
from tests.faults.findings import Fault, Findings
from tests.faults.site import BUS, ROUTER, SMALL, SPARE, Site, until

AGAIN_S = 2.0
LATE_S = 2.0
"""What a busy machine may add to a time that is measured from outside."""
WINDOW_S = 30.0
STATE = "var/lib/kloros-router"
JOURNALS = ("leases.jsonl", "answers.log")
NOT_KEPT = "cannot be kept"
EPOCH_S = re.compile(rb"\b1[0-9]{9}(\.[0-9]+)?\b")


async def killed(site: Site, findings: Findings) -> None:
    """Kill the router with 100 requests over HTTP and 100 over the direct endpoint."""
    before = site.pids()
    # The pause before a restart doubles with each failure in a row, and other faults may have come before.
    site.supervisor.reset_failed((ROUTER,))
    async with site.web() as web, a_client(site) as client:
        # So long that the first does not end before the last has come; those over HTTP never do.
        crowd = crowd_of(web, site.scale.in_flight // 2, tokens=300)
        asked = [asyncio.create_task(bus_ask(client, tokens=8)) for _ in range(site.scale.in_flight // 2)]
        await until(lambda: holds(site, site.scale.in_flight), 20, "all requests to be in flight")
        site.send(ROUTER, signal.SIGKILL)
        begun = time.monotonic()
        await until(lambda: site.pid(ROUTER) not in (0, before[ROUTER]), 20, "the router to be started again")
        started_s = time.monotonic() - begun
        await until(lambda: answers(site), 20, "the router to serve again")
        again_s = time.monotonic() - begun
        tally = await crowd.ended()
        replies = await asyncio.gather(*asked)
    await site.heal()
    after = site.pids()
    findings.note(
        f"HTTP: {tally}; bus: {bus_tally(replies)}; started after {started_s:.1f} s, served again after {again_s:.1f} s"
    )
    findings.check(again_s <= AGAIN_S + LATE_S, f"it served again only after {again_s:.1f} s")
    findings.check(tally.lost == 0, "a request over HTTP ended as if it were whole")
    findings.check(all(reply == "answered" for reply in replies), "a request over the bus was lost")
    findings.check(after[ROUTER] not in (0, before[ROUTER]), "the router is not another process")
    adopted = all(after[unit] == before[unit] for unit in (SMALL, SPARE, BUS))
    findings.check(adopted, "what ran was started again")
    findings.check(sorted(site.servers()) == sorted((after[SMALL], after[SPARE])), "a llama-server is nobody's")
    leases = (site.root / STATE / "leases.jsonl").read_text()
    findings.note(f"{leases.count('created')} leases in the journal")


async def drained(site: Site, findings: Findings) -> None:
    """Ask the router to end while fifty streams run: all of them finish, and nobody new comes in."""
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.streams, tokens=12, is_stream=True)
        await until(lambda: crowd.begun == site.scale.streams, 60, "all streams under way")
        pid = site.send(ROUTER, signal.SIGTERM)
        begun = time.monotonic()
        await until(lambda: is_shut(site), 5, "the door to be shut")
        late = await crowd_of(web, 4).ended()
        tally = await crowd.ended()
        await until(lambda: not Path(f"/proc/{pid}").exists(), WINDOW_S, "the router to end")
        ended_s = time.monotonic() - begun
    findings.account(tally)
    findings.note(f"newcomers: {late}; ended after {ended_s:.1f} s")
    findings.check(tally.answered == site.scale.streams, "a stream was cut")
    findings.check(late.only(Kind.UNREACHED), "somebody new came in")
    await asyncio.to_thread(site.supervisor.start, ROUTER)


async def cut(site: Site, findings: Findings) -> None:
    """Ask twice: the second time ends what still runs, and says so to each."""
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.streams, tokens=300, is_stream=True)
        await until(lambda: crowd.begun == site.scale.streams, 60, "all streams under way")
        pid = site.send(ROUTER, signal.SIGTERM)
        await until(lambda: is_shut(site), 5, "the door to be shut")
        begun = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        tally = await crowd.ended()
        await until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the router to end")
        ended_s = time.monotonic() - begun
    findings.account(tally)
    findings.note(f"ended after {ended_s:.1f} s")
    findings.check(tally.only(Kind.TOLD, Kind.ANSWERED), "a stream ended otherwise")
    findings.check(ended_s < 2.0 + LATE_S, "it took its time")
    await asyncio.to_thread(site.supervisor.start, ROUTER)


async def no_descriptors(site: Site, findings: Findings) -> None:
    """Leave the router eight descriptors more than it has."""
    pid = site.pid(ROUTER)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = descriptors(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, before[1]))
    try:
        async with a_web(site.bridge, timeout_s=30) as web:
            crowd = crowd_of(web, site.scale.clients)
            await asyncio.sleep(3)  # how long it is without; what comes of it is looked at below
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            tally = await crowd.ended()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    findings.account(tally)
    healed_s = await site.heal()
    findings.note(f"well {healed_s:.1f} s later")
    findings.check(site.pid(ROUTER) == pid, "the router has ended")
    async with site.web() as web:
        again = await crowd_of(web, site.scale.clients).ended()
    findings.check(again.answered == len(again.endings), "not all were answered afterwards")


async def no_room_on_disk(site: Site, findings: Findings) -> None:
    """Let each write to the journals fail as on a full disk (full(4))."""
    pid, said = site.pid(ROUTER), site.log(ROUTER, 10_000).count(NOT_KEPT)
    journals = [site.root / STATE / name for name in JOURNALS]
    for journal in journals:
        journal.unlink(missing_ok=True)
        journal.symlink_to("/dev/full")
    try:
        async with site.web() as web, a_client(site) as client:
            asked = [asyncio.create_task(bus_ask(client)) for _ in range(site.scale.clients)]
            tally = await crowd_of(web, site.scale.clients).ended()
            replies = await asyncio.gather(*asked)
    finally:
        for journal in journals:
            journal.unlink(missing_ok=True)
    said = site.log(ROUTER, 10_000).count(NOT_KEPT) - said
    findings.account(tally)
    findings.note(f"bus: {bus_tally(replies)}; its log says so {said} times")
    findings.check(tally.answered == len(tally.endings), "not all were answered")
    findings.check(set(replies) == {"answered"}, "a request over the bus was lost")
    findings.check(said == len(journals), "the log does not say once of each journal that it is not kept")
    findings.check(site.pid(ROUTER) == pid, "the router has ended")


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda data: data[: len(data) // 2],
    "flipped": lambda data: bytes(byte ^ 0x20 for byte in data),
    "random": lambda _: os.urandom(4096),
    "empty": lambda _: b"",
    "written by a clock that was a month ahead": lambda data: at_another_time(data, 30 * 86_400.0),
    "written by a clock that was a month behind": lambda data: at_another_time(data, -30 * 86_400.0),
}


def at_another_time(data: bytes, ahead_s: float) -> bytes:
    """Give a journal as it is where the clock was another: as if it had been put back or forward meanwhile."""
    return EPOCH_S.sub(lambda found: str(float(found[0]) + ahead_s).encode(), data)


async def broken_files(site: Site, findings: Findings) -> None:
    """Start the router with journals and a profile that are not what they were."""
    state, profile = site.root / STATE, site.root / "run/kloros/gpu_profile"
    kept, before = profile.read_text(), site.pids()
    for name, harm in HARMS.items():
        await asyncio.to_thread(site.supervisor.stop, ROUTER)
        for file in (*(state / name for name in JOURNALS), profile):
            file.write_bytes(harm(file.read_bytes() if file.exists() else b"x" * 200))
        await asyncio.to_thread(site.supervisor.start, ROUTER)
        await site.heal()
        async with site.web() as web:
            tally = await crowd_of(web, 8).ended()
        findings.check(tally.answered == 8, f"{name}: {tally}")
    profile.write_text(kept)
    after = site.pids()
    findings.check((after[SMALL], after[SPARE]) == (before[SMALL], before[SPARE]), "what ran was stopped or restarted")
    table = site.routing.read_text()
    findings.note(f"{len(HARMS)} starts, all served")
    findings.check("Traceback" not in site.log(ROUTER, 400), "the log has a traceback")
    findings.check(json.loads(table)["version"] == 2, "the table is another")


async def torn_table(site: Site, findings: Findings) -> None:
    """Replace the routing table by half of one while 32 ask: the router goes on with what it has, and says so."""
    whole = site.routing.read_text()
    async with site.web() as web:
        crowd = crowd_of(web, site.scale.clients, tokens=20, is_stream=True)
        put(site.routing, whole[: len(whole) // 2])
        await until(lambda: has_problem(site), 5, "health to say that the table is broken")
        tally = await crowd.ended()
        put(site.routing, whole)
        await until(lambda: has_no_problem(site), 5, "health to be content again")
    findings.account(tally)
    findings.check(tally.answered == len(tally.endings), "not all were answered")


# What they have in common.


def put(file: Path, text: str) -> None:
    """Put another text in a file's place."""
    fresh = file.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(file)


async def has_problem(site: Site) -> bool:
    return "problem" in await site.health()


async def has_no_problem(site: Site) -> bool:
    health = await site.health()
    return bool(health) and "problem" not in health


async def holds(site: Site, count: int) -> bool:
    runtimes = (await site.health()).get("runtimes", ())
    return sum(int(one["active_requests"]) + int(one["queued_requests"]) for one in runtimes) >= count


async def answers(site: Site) -> bool:
    return any(one["status"] == "healthy" for one in (await site.health()).get("runtimes", ()))


async def is_shut(site: Site) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", site.bridge)
    except ConnectionRefusedError:
        return True
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return False


@asynccontextmanager
async def a_client(site: Site, *, is_direct: bool = True) -> AsyncIterator[AsyncClient]:
    """Give a client of the router's bus face."""
    direct = f"tcp://127.0.0.1:{site.direct}" if is_direct else None
    places = Addresses(direct, f"tcp://127.0.0.1:{site.xsub}", f"tcp://127.0.0.1:{site.xpub}")
    async with AsyncClient(places) as client:
        yield client


async def bus_ask(client: AsyncClient, *, tokens: int = 4) -> str:
    """Ask over the bus; say how it ended."""
    try:
        # What it writes must not be drawn: llama-server fails where it cannot read it (common_chat_peg_parse).
        answer: Answer = await client.ask("Tell me a story.", max_tokens=tokens, temperature=0, timeout_s=60.0)
    except RefusedError as error:
        return error.code
    return "answered" if answer.model_id else "empty"


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def bus_tally(replies: list[str]) -> str:
    return ", ".join(f"{replies.count(reply)} {reply}" for reply in sorted(set(replies)))


FAULTS = (
    Fault("20", "router killed with 200 requests in flight",
          "serves again within 2 s, keeps what runs, starts nothing twice; HTTP clients see their connection end, "
          "bus clients get all answers", killed, is_quick=True),
    Fault("25", "journals and profile cut, flipped, random, empty; row 22: the clock put back and forward by 30 days",
          "passed over and written anew; all served, nothing stopped", broken_files),
    Fault("25b", "routing table torn while 32 ask", "the old one stays, health says so; all answered", torn_table),
    Fault("26", "router out of file descriptors (EMFILE) for 3 s",
          "what it cannot take is closed or refused; no model is blamed for it, and it goes on", no_descriptors),
    Fault("27", "SIGTERM with 50 streams", "no new clients, 50 of 50 finish, then it ends", drained, is_quick=True),
    Fault("28", "the disk of the journals is full", "said once of each in the log; all answered", no_room_on_disk),
    Fault("27b", "a second SIGTERM", "each stream ends in an error event, at once", cut),
)  # fmt: skip
