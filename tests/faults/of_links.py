"""A remote host behind a link that fails in every way that a link can: what clients notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from tests.fakes.fault_proxy import FaultProxy, Toxic, a_fault_proxy
from tests.fakes.scripted_upstream import plain
from tests.faults.asking import Kind, Tally, crowd_of, mixed_up
from tests.faults.findings import Fault, Findings
from tests.faults.site import ROUTER, Site, until

SILENT_S = 4.0
"""Where connections stay open and nothing comes, three health checks of a second each must fail."""
LATE_S = 1.0
REMOTE = "rig/small"


@asynccontextmanager
async def a_link(site: Site) -> AsyncIterator[FaultProxy]:
    """Put the remote host up: the spare's llama-server behind a proxy. The router knows nothing ill of it."""
    async with a_fault_proxy(site.rig, site.spare) as link:
        await asyncio.to_thread(site.supervisor.restart, ROUTER)
        await site.heal()
        await until(lambda: is_healthy(site), 20, "the remote host to be healthy")
        yield link


async def is_healthy(site: Site) -> bool:
    about = await site.about(REMOTE)
    return (about.get("status"), about.get("breaker")) == ("healthy", "closed")


async def vanishes(site: Site, findings: Findings) -> None:
    async with a_link(site) as link, site.web() as web:
        crowd = crowd_of(web, site.scale.clients, is_stream=True)
        await until(lambda: link.posts > 0, 10, "requests on the link")
        await link.set(Toxic.VANISHED)
        begun = time.monotonic()
        await until(lambda: is_out(site), 20, "the host to be taken out")
        known_s = time.monotonic() - begun
        tally = await crowd.ended()
        asked = link.posts
        again = await crowd_of(web, site.scale.clients).ended()
    findings.account(tally)
    findings.account(again)
    findings.note(f"known after {known_s:.1f} s")
    findings.check(known_s <= SILENT_S + LATE_S, f"it was known only after {known_s:.1f} s")
    findings.check(tally.only(Kind.ANSWERED, Kind.TOLD), "a request ended otherwise than answered or told")
    findings.check(again.answered == len(again.endings), "not all that came later were answered")
    findings.check(link.posts == asked, "it was asked again")


async def is_out(site: Site) -> bool:
    about = await site.about(REMOTE)
    return about.get("status") != "healthy" or about.get("breaker") != "closed"


async def refuses(site: Site, findings: Findings) -> None:
    async with a_link(site) as link, site.web() as web:
        await link.set(Toxic.DOWN)
        tally = await crowd_of(web, site.scale.clients).ended()
    findings.account(tally)
    findings.check(tally.answered == len(tally.endings), "not all were answered")


async def sliced(site: Site, findings: Findings) -> None:
    for toxic, delay_s in ((Toxic.SLICED, 0.0), (Toxic.LATENCY, 0.02), (Toxic.SLOW_CLOSE, 0.5)):
        async with a_link(site) as link, site.web() as web:
            await link.set(toxic, delay_s=delay_s)
            tally, asked = await streams(site, web, findings)
            whole = {payload_of(bytes(answer)) for answer in link.answers}
            through = [one for one in tally.endings if one.instance == REMOTE]
            equal = sum(one.data in whole for one in through)
        findings.note(f"{toxic.value}: {tally.brief()}; {equal} of {len(through)} through it byte-equal")
        findings.check(tally.answered == len(tally.endings), f"{toxic.value}: not all were answered")
        findings.check(len(through) > 0 and equal == len(through), f"{toxic.value}: other bytes came out")
        findings.check(asked == 0, f"{toxic.value}: an answer was another's")


async def streams(site: Site, web: httpx.AsyncClient, findings: Findings) -> tuple[Tally, int]:
    crowd = crowd_of(web, site.scale.clients, tokens=6, is_stream=True)
    tally = await crowd.ended()
    findings.check(tally.lost == 0, f"{tally.lost} requests were lost without a word")
    return tally, mixed_up(crowd, tally)


def payload_of(answer: bytes) -> bytes:
    """Take the chunks of an answer together (RFC 9112, section 7.1)."""
    body, data = answer.partition(b"\r\n\r\n")[2], b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        data, body = data + body[:length], body[length + 2 :]
        if length == 0:
            break
    return data


async def breaks(site: Site, findings: Findings) -> None:
    """Break answers off before their first byte, in their head, in the first event and in a later one."""
    for toxic, places in ((Toxic.RESET, (0, 40, 1200)), (Toxic.CLOSED, (0, 400))):
        for at_byte in places:
            await broken(site, findings, toxic, at_byte=at_byte)


async def garbage(site: Site, findings: Findings) -> None:
    await broken(site, findings, Toxic.GARBAGE)
    await broken(site, findings, Toxic.TWICE)


async def bad_chunk(site: Site, findings: Findings) -> None:
    await broken(site, findings, Toxic.BAD_CHUNK, at_byte=40)
    await broken(site, findings, Toxic.BAD_CHUNK, at_byte=400)


async def broken(site: Site, findings: Findings, toxic: Toxic, *, at_byte: int = 0) -> None:
    """Ask through a broken link, and once more when it is whole again: nothing of before may be left."""
    async with a_link(site) as link, site.web() as web:
        await link.set(toxic, at_byte=at_byte)
        crowd = crowd_of(web, site.scale.clients, is_stream=True)
        tally = await crowd.ended()
        harmed = link.posts
        await link.set(Toxic.NONE)
        after = crowd_of(web, site.scale.clients)
        later = await after.ended()
    name = f"{toxic.value} ({at_byte})" if at_byte else toxic.value
    findings.note(f"{name}: {harmed} harmed, {tally.brief()}")
    findings.check(harmed > 0, f"{name}: no request was harmed")
    findings.check(tally.only(Kind.ANSWERED, Kind.TOLD), f"{name}: {tally}")
    findings.check(mixed_up(crowd, tally) + mixed_up(after, later) == 0, f"{name}: an answer was another's")
    findings.check(later.answered == len(later.endings), f"{name}: what came later was not answered: {later}")


CANNED: Mapping[str, bytes] = {
    "500": plain(b'{"error":{"code":500,"message":"out of sorts"}}', status=b"500 Internal Server Error"),
    "503 loading": plain(b'{"error":{"code":503,"message":"Loading model"}}', status=b"503 Service Unavailable"),
    "429": plain(b"{}", status=b"429 Too Many Requests", head=b"Retry-After: 3\r\n"),
    "502": plain(b"<html>", status=b"502 Bad Gateway"),
}


async def answers_errors(site: Site, findings: Findings) -> None:
    for name, canned in CANNED.items():
        async with a_link(site) as link, site.web() as web:
            await link.set(Toxic.CANNED, canned=canned)
            # Only what llama-server itself is known to take is counted against it when it answers 500.
            tally = await crowd_of(web, site.scale.clients, ignore_eos=None).ended()
            about = await site.about(REMOTE)
        findings.note(f"{name}: {link.posts} asked there, {tally.brief()}, breaker {about.get('breaker')}")
        findings.check(tally.answered == len(tally.endings), f"{name}: not all were answered")
        findings.check(link.posts > 0, f"{name}: nobody was sent there")
        findings.check(name != "429" or link.posts <= 8, "Retry-After was not heeded")
        is_blamed = name in ("500", "502")
        findings.check((about.get("breaker") == "open") is is_blamed, f"{name}: the breaker is {about.get('breaker')}")
    async with a_link(site) as link, site.web() as web:
        await link.set(Toxic.CANNED, canned=plain(b'{"error":{"message":"no"}}', status=b"400 Bad Request"))
        refused = await crowd_of(web, site.scale.clients).ended()
        about = await site.about(REMOTE)
    findings.note(f"400: {refused.brief()}, breaker {about.get('breaker')}")
    findings.check(refused.kinds[Kind.REFUSED] > 0, "400: nobody was refused")
    findings.check(about.get("breaker") == "closed", "400: the breaker counts what the client did wrong")
    findings.check(refused.lost == 0, "400: requests were lost")


FAULTS = (
    Fault("5", "remote host vanishes: no answer, no refusal",
          "known within 4 s (2 s where connections fail), the rest served here", vanishes),
    Fault("5b", "remote host refuses connections", "all served here", refuses),
    Fault("6", "one byte at a time; late; closed late", "the same bytes", sliced),
    Fault("6b", "reset or closed after so many bytes",
          "answered elsewhere, or an error event; never half an answer", breaks),
    Fault("7", "garbage, two answers at once", "answered elsewhere; nothing left for the next request",
          garbage),
    Fault("7b", "a chunk whose length is none", "answered elsewhere, or an error event; nothing left for the next",
          bad_chunk),
    Fault("8", "500, 502, 503 while loading, 429 and 400 from a host",
          "answered elsewhere; 429 heeded; 400 passed on; the breaker opens for 500 and 502 alone", answers_errors),
)  # fmt: skip
