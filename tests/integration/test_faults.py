"""What clients of a real installation notice when it fails: rows of `python -m benchmarks.faults` with few clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.findings import Fault, Findings
from tests.faults.site import Scale, Site, a_site

pytestmark = pytest.mark.real_model

QUICK = [fault for fault in FAULTS if fault.is_quick]
FEW = Scale(clients=12, in_flight=48, streams=16)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_site(tmp_path_factory.mktemp("site"), FEW) as one:
        yield one


@pytest.mark.parametrize("fault", QUICK, ids=[f"{fault.row}-{fault.scenario.__name__}" for fault in QUICK])
def test_its_outcome_is_the_stated_one(site: Site, fault: Fault) -> None:
    findings = Findings()

    async def within() -> None:
        await site.heal()
        await fault.scenario(site, findings)
        await site.heal()

    asyncio.run(within())
    assert findings.misses == [], findings.figures
