"""What the router itself has no more of, or cannot ask, is nobody else's fault."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from kloros_infra.adapters.line_journal import LineJournal, journal_in_place
from kloros_infra.adapters.service_problems import no_answer
from kloros_infra.daemon.unit_keeper import UnitKeeper, UnitLimits
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.errors import UnitError
from kloros_infra.router.events import UnitFailed, UnitStarted, Verdict
from tests.bridge_house import until
from tests.factories import a_target
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.no_descriptors import no_descriptors_left
from tests.fakes.unit_control import FakeUnitControl
from tests.unit.daemon.test_unit_keeper import INSTANCE, UNIT, ListeningDesk


def test_a_target_that_could_not_even_be_asked_is_asked_again_and_not_blamed() -> None:
    async def within() -> None:
        pool = UpstreamPool(UpstreamLimits(ask_again_s=0.02))
        async with FakeLlamaServer() as server:
            target = a_target(port=server.port)
            with no_descriptors_left():
                asked = asyncio.create_task(pool.check(target, b"/health", timeout_s=1))
                await asyncio.sleep(0.1)  # several attempts
                assert not asked.done()
            assert await asked is Verdict.HEALTHY
        await pool.close()

    asyncio.run(within())


class MuteManager(FakeUnitControl):
    """Cannot be asked so many times."""

    times = 0

    async def start(self, unit: str) -> None:
        if self.times:
            self.times -= 1
            raise UnitError(no_answer("It", "no more descriptors", ""))
        await super().start(unit)


@pytest.mark.parametrize(("times", "comes_up"), [(3, True), (1000, False)])
def test_an_order_that_nobody_takes_is_given_again_for_a_while(times: int, comes_up: bool) -> None:
    async def within() -> None:
        desk, units = ListeningDesk(), MuteManager([UNIT])
        units.times = times
        keeper = UnitKeeper(desk, units, UnitLimits(mute_s=0.3, order_again_s=0.01))
        try:
            keeper.start(INSTANCE)
            await until(lambda: len(desk.told) == 1)
            assert isinstance(desk.told[0], UnitStarted if comes_up else UnitFailed)
        finally:
            await keeper.close()
            desk.close()

    asyncio.run(within())


def test_a_journal_makes_its_folder_and_passes_over_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "state" / "leases.jsonl"
    journal_in_place(file).append("one\n")
    file.write_bytes(b"\xff\xfe\n" + file.read_bytes())
    assert LineJournal(file).read().splitlines()[-1] == "one"


def test_a_line_that_the_disk_had_no_room_for_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = LineJournal(tmp_path / "leases.jsonl")
    journal.append("one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.append("two and more\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.append("three\n")
    assert journal.read() == "one\nthree\n"


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert journal_in_place(tmp_path / "file" / "leases.jsonl")
