"""Clients that send as slowly as they can: they are told so, and the others notice nothing."""

from __future__ import annotations

import asyncio
import time

from tests.faults.asking import crowd_of
from tests.faults.findings import Fault, Findings
from tests.faults.site import Site

SLOW = 32
HEAD_LIMIT_S = 10.0
LATE_S = 2.0
HALF_A_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


async def slow_loris(site: Site, findings: Findings) -> None:
    async with site.web() as web:
        await crowd_of(web, site.scale.clients).ended()  # so that prompts are cached for both that are compared
        before = await crowd_of(web, site.scale.clients).ended()
        begun = time.monotonic()
        slow = [asyncio.create_task(dawdle(site.bridge)) for _ in range(SLOW)]
        meanwhile = await crowd_of(web, site.scale.clients).ended()
        said = await asyncio.gather(*slow)
        took_s = time.monotonic() - begun
    findings.account(meanwhile)
    findings.note(f"{sum(b' 408 ' in one for one in said)} of {SLOW} slow ones got 408, the last after {took_s:.1f} s")
    findings.note(f"slowest of the others {meanwhile.slowest_s:.1f} s, without slow ones {before.slowest_s:.1f} s")
    findings.check(all(b" 408 " in one for one in said), "a slow client was not told so")
    findings.check(took_s <= HEAD_LIMIT_S + LATE_S, "slow clients were let be")
    findings.check(meanwhile.answered == len(meanwhile.endings), "not all others were answered")
    findings.check(meanwhile.slowest_s <= 2 * before.slowest_s + LATE_S, "others were slowed down")


async def dawdle(port: int) -> bytes:
    """Send a byte of a header twice a second, until the other side has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HALF_A_HEAD)
    said = asyncio.create_task(reader.read())
    while not said.done():
        writer.write(b"x")
        await asyncio.wait((said,), timeout=0.5)
    writer.close()
    return said.result()


FAULTS = (
    Fault("9", "32 clients send half a request, byte by byte", "408 after 10 s; others as fast as before", slow_loris),
)
