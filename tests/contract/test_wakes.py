"""What wakes the agent, on real folders: inotify(7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from kloros_infra.adapters.wakes import FolderWakes

SOON_S = 5.0
QUIET_S = 0.05


class Places:
    """A root with the agent's folders, of which none is there yet."""

    def __init__(self, root: Path) -> None:
        self.flag = root / "run" / "kloros" / "dirty"
        self.wishes = root / "etc" / "kloros"
        self.locks = self.wishes / "gpu_lockouts.d"
        self.wakes = FolderWakes(self.flag, {self.wishes: ("gpu_lockout", "gpu_lockouts.d"), self.locks: ()})

    def is_woken(self) -> bool:
        """Say whether something has woken; what comes with it is taken as well."""
        is_woken = self.wakes.wait(SOON_S)
        while self.wakes.wait(QUIET_S):
            pass
        return is_woken

    def is_quiet(self) -> bool:
        return not self.wakes.wait(QUIET_S)

    def make_folders(self) -> None:
        self.flag.parent.mkdir(parents=True)
        self.locks.mkdir(parents=True)
        assert self.is_woken()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    found = Places(tmp_path)
    yield found
    found.wakes.close()


def test_a_flag_wakes_and_its_end_does_not(places: Places) -> None:
    places.make_folders()
    assert places.is_quiet()
    places.flag.touch()
    assert places.is_woken()
    places.flag.touch()
    assert places.is_woken()
    places.flag.unlink()
    assert places.is_quiet()


def test_other_files_beside_the_flag_wake_nobody(places: Places) -> None:
    places.make_folders()
    report = places.flag.with_name("gpu_cards.json")
    report.with_suffix(".new").write_text("{}")
    report.with_suffix(".new").rename(report)
    report.unlink()
    assert places.is_quiet()


def test_each_way_of_changing_a_lockout_wakes(places: Places) -> None:
    places.make_folders()
    one, single = places.locks / "rtx5080.json", places.wishes / "gpu_lockout"
    one.write_text("{}")
    assert places.is_woken()
    one.chmod(0)
    assert places.is_woken()
    one.unlink()
    assert places.is_woken()
    single.with_name("other").write_text("{}")
    assert places.is_quiet()
    single.with_name("other").rename(single)
    assert places.is_woken()
    single.rename(single.with_name("other"))
    assert places.is_woken()
    one.symlink_to(single)
    assert places.is_woken()


def test_a_file_wakes_once_it_is_whole(places: Places) -> None:
    places.make_folders()
    with (places.locks / "rtx5080.json").open("w") as file:
        file.write("{")
        file.flush()
        assert places.is_quiet()
    assert places.is_woken()


def test_folders_that_come_and_go_are_followed(places: Places) -> None:
    assert places.is_quiet()
    places.flag.parent.parent.mkdir()
    assert places.is_woken()
    places.flag.parent.mkdir()
    assert places.is_woken()
    places.flag.touch()
    assert places.is_woken()
    places.flag.unlink()
    places.flag.parent.rmdir()
    assert places.is_woken()
    places.flag.parent.mkdir()
    assert places.is_woken()
    places.flag.touch()
    assert places.is_woken()


def test_a_link_that_is_replaced_wakes(tmp_path: Path) -> None:
    current = tmp_path / "current"
    wakes = FolderWakes(tmp_path / "run" / "dirty", {tmp_path: ("current",)})
    for number in "12":
        fresh = tmp_path / "fresh"
        fresh.symlink_to(number)
        fresh.rename(current)
        assert wakes.wait(SOON_S)
    wakes.close()


def test_another_thread_can_nudge_once(places: Places) -> None:
    thread = Thread(target=places.wakes.nudge)
    thread.start()
    assert places.wakes.wait(SOON_S)
    thread.join()
    assert places.is_quiet()


def test_what_happens_while_it_settles_ends_the_next_wait(places: Places) -> None:
    places.make_folders()
    thread = Thread(target=places.flag.touch)
    thread.start()
    places.wakes.settle(0.02)
    thread.join()
    assert places.wakes.wait(SOON_S)
