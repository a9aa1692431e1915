"""The bus proxy is killed, hangs and comes back: nothing that was asked over it is lost."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.faults.findings import Fault, Findings
from tests.faults.of_router import a_client, bus_ask, bus_tally
from tests.faults.site import BUS, ROUTER, SMALL, SPARE, Site, until

BACK_S = 1.0
LATE_S = 1.0


async def killed(site: Site, findings: Findings) -> None:
    before = site.pids()
    async with a_client(site, is_direct=False) as client:
        findings.check(await bus_ask(client) == "answered", "the bus did not work before")
        asked = [asyncio.create_task(bus_ask(client, tokens=12)) for _ in range(site.scale.clients)]
        await asyncio.sleep(0.1)  # so that some are on their way in, and some being answered
        pid = site.send(BUS, signal.SIGKILL)
        await until(lambda: site.pid(BUS) not in (0, pid), 10, "the bus to be started again")
        begun = time.monotonic()
        first = await bus_ask(client, tokens=1)
        again_s = time.monotonic() - begun
        replies = [first, *await asyncio.gather(*asked)]
    findings.note(f"{bus_tally(replies)}; the first that was asked afterwards was answered after {again_s:.1f} s")
    findings.check(all(reply == "answered" for reply in replies), "a request was lost")
    after = site.pids()
    findings.check(all(after[unit] == before[unit] for unit in (ROUTER, SMALL, SPARE)), "others were restarted")


async def hung(site: Site, findings: Findings) -> None:
    """Stop the bus for two seconds; whoever may ask directly does not even notice."""
    async with a_client(site, is_direct=False) as over_bus, a_client(site) as direct:
        findings.check(await bus_ask(over_bus) == "answered", "the bus did not work before")
        findings.check(await bus_ask(direct) == "answered", "the direct endpoint did not work before")
        site.send(BUS, signal.SIGSTOP)
        try:
            asked = [asyncio.create_task(bus_ask(over_bus)) for _ in range(site.scale.clients)]
            begun = time.monotonic()
            meanwhile = await asyncio.gather(*(bus_ask(direct) for _ in range(site.scale.clients)))
            direct_s = time.monotonic() - begun
            findings.check(not any(task.done() for task in asked), "the bus did not hang")
        finally:
            site.send(BUS, signal.SIGCONT)
        replies = await asyncio.gather(*asked)
    findings.note(f"directly: {bus_tally(meanwhile)} in {direct_s:.1f} s; over the bus: {bus_tally(replies)}")
    findings.check(set(meanwhile) == {"answered"}, "a direct request was lost")
    findings.check(set(replies) == {"answered"}, "a request over the bus was lost")


FAULTS = (
    Fault("21", "bus proxy killed with 32 requests on it", "started again; all 32 answered, each id once", killed,
          is_quick=True),
    Fault("21b", "bus proxy hangs (SIGSTOP)", "direct requests are answered meanwhile, others when it goes on", hung),
)  # fmt: skip
