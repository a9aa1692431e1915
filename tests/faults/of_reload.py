"""A model changes while others stream: an apply, and a new routing table under a recorded link."""

from __future__ import annotations

import asyncio

from tests.fakes.fault_proxy import a_fault_proxy
from tests.faults.asking import crowd_of, mixed_up
from tests.faults.findings import Fault, Findings
from tests.faults.of_links import REMOTE, is_healthy, payload_of
from tests.faults.site import CONTEXT_TOKENS, ROUTER, SMALL, SPARE, Site, until

STREAMS = 16


async def another_model_changes(site: Site, findings: Findings) -> None:
    """Apply another context for `spare` while `small` streams; half of the streams come through a link that records."""
    async with a_fault_proxy(site.rig, site.small) as link:
        await asyncio.to_thread(site.supervisor.restart, ROUTER)
        await site.heal()
        await until(lambda: is_healthy(site), 20, "the remote host to be healthy")
        before = site.pids()
        async with site.web() as web:
            crowd = crowd_of(web, STREAMS, tokens=100, is_stream=True, model="small")
            await until(lambda: crowd.begun == STREAMS, 30, "all streams under way")
            site.write(spare_context=2 * CONTEXT_TOKENS)
            await asyncio.to_thread(site.apply)
            still = sum(not task.done() for task in crowd.tasks)
            tally = await crowd.ended()
        whole = {payload_of(bytes(answer)) for answer in link.answers}
    after = site.pids()
    recorded = [one for one in tally.endings if one.instance == REMOTE]
    equal = sum(one.data in whole for one in recorded)
    findings.account(tally)
    findings.note(f"{still} still streamed when the apply was done; {equal} of {len(recorded)} recorded are byte-equal")
    findings.check(tally.answered == STREAMS, "a stream did not finish")
    findings.check(mixed_up(crowd, tally) == 0, "a stream has not as many tokens as were asked for")
    findings.check(0 < equal == len(recorded), "other bytes came out")
    findings.check(all(after[unit] == before[unit] for unit in (ROUTER, SMALL)), "what did not change was restarted")
    findings.check(after[SPARE] != before[SPARE], "what changed was not restarted")
    site.write()
    await asyncio.to_thread(site.apply)


FAULTS = (
    Fault("R", "apply changes another model while 16 streams run", "16 of 16 finish, byte for byte",
          another_model_changes),
)  # fmt: skip
