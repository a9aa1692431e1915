"""Do to a real installation what can go wrong with it, and see what its clients notice.

Bus, router and two llama-servers with a small real model run under the embedded supervisor; 32 clients ask at once, and
each request is accounted for: answered, told that it failed, or lost. Prints a Markdown table and ends with 1 where
an outcome is not the stated one:

    python -m benchmarks.faults [ROW…]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.findings import Fault, Findings
from tests.faults.site import Site, a_site


def run(fault: Fault, site: Site) -> tuple[Findings, float]:
    """Let one fault happen, and wait until all is well again."""
    findings, begun = Findings(), time.monotonic()

    async def within() -> None:
        await site.heal()
        await fault.scenario(site, findings)
        await site.heal()

    try:
        asyncio.run(within())
    except Exception as error:
        findings.misses.append(f"{type(error).__name__}: {error}")
    return findings, time.monotonic() - begun


def line(fault: Fault, findings: Findings, took_s: float) -> str:
    """Write a row of the table."""
    outcome = f"**not so**: {'; '.join(findings.misses)}" if findings.misses else "so"
    return (
        f"| {fault.row} | {fault.title} | {fault.expected} | {outcome} | {'; '.join(findings.figures)} | {took_s:.0f} |"
    )


def main() -> None:
    """Let all faults happen, or those that are named."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rows", nargs="*", help="rows of the table; all where none is named")
    rows = set(arguments.parse_args().rows)
    chosen = [fault for fault in FAULTS if not rows or fault.row in rows]
    begun, misses = time.monotonic(), 0
    say("| # | fault | expected | outcome | figures | s |")
    say("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, a_site(Path(folder)) as site:
        for fault in chosen:
            findings, took_s = run(fault, site)
            misses += bool(findings.misses)
            say(line(fault, findings, took_s))
    say(f"\n{len(chosen) - misses} of {len(chosen)} as stated, in {time.monotonic() - begun:.0f} s.")
    sys.exit(1 if misses else 0)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
