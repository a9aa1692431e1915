"""Who has a card's device file open, in a /proc of the test's and in the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.card_holders import CardHolders, OpenBy, Seen
from kloros_infra.ir.card_facts import DeclaredCard

UUID = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
CARD = DeclaredCard("rtx5080", UUID, "0000:01:00.0")


def a_driver(proc: Path, *lines: str, address: str = "0000:01:00.0") -> None:
    """Write what NVIDIA's driver says of a card."""
    folder = proc / "driver" / "nvidia" / "gpus" / address
    folder.mkdir(parents=True)
    (folder / "information").write_text("".join(f"{line}\n" for line in lines))


def a_process(proc: Path, pid: int, name: str, *files: str) -> Path:
    """Make a process that has files open."""
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_bytes(name.encode() + b"\n")
    for number, file in enumerate(files):
        (folder / "fd" / str(number)).symlink_to(file)
    return folder


@pytest.fixture
def holders(tmp_path: Path) -> CardHolders:
    (tmp_path / "proc").mkdir()
    return CardHolders(dev=tmp_path / "dev", proc=tmp_path / "proc")


@pytest.mark.parametrize("card", [CARD, DeclaredCard("a", UUID), DeclaredCard("a", None, "0000:01:00.0")])
def test_the_driver_says_which_device_file_is_a_cards(holders: CardHolders, card: DeclaredCard, tmp_path: Path) -> None:
    a_driver(tmp_path / "proc", "Model: RTX", f"GPU UUID: {UUID}", "Device Minor: 3")
    assert holders.device(card) == tmp_path / "dev" / "nvidia3"


def test_a_card_that_has_moved_is_found_by_what_the_driver_has_read_from_it(
    holders: CardHolders, tmp_path: Path
) -> None:
    proc, elsewhere = tmp_path / "proc", "0000:02:00.0"
    a_driver(proc, f"GPU UUID: {UUID.replace('5a2b', '6a2b')}", "Device Minor: 0")
    assert holders.device(CARD) is None, "another card stands at its address"
    a_driver(proc, f"GPU UUID: {UUID}", "Device Minor: 1", address=elsewhere)
    assert holders.device(CARD) == tmp_path / "dev" / "nvidia1"
    asleep = DeclaredCard("a", "GPU-7a2b", "0000:03:00.0")
    a_driver(proc, "GPU UUID: GPU-????????-????", "Device Minor: 2", address="0000:03:00.0")
    assert holders.device(asleep) == tmp_path / "dev" / "nvidia2"


@pytest.mark.parametrize("lines", [(), ("Device Minor: none",), ("GPU UUID: x",)])
def test_a_card_whose_number_the_driver_does_not_say_has_no_device_file(
    holders: CardHolders, lines: tuple[str, ...], tmp_path: Path
) -> None:
    a_driver(tmp_path / "proc", *lines)
    assert holders.device(CARD) is None
    assert holders.device(DeclaredCard("other", None, "0000:02:00.0")) is None


def test_every_process_that_has_it_open_is_named_with_its_user(holders: CardHolders, tmp_path: Path) -> None:
    device, proc = tmp_path / "dev" / "nvidia0", tmp_path / "proc"
    a_process(proc, 42, "game.exe", "/dev/null", str(device))
    a_process(proc, 7, "Xorg\x1b[2J", f"{device} (deleted)")
    a_process(proc, 8, "other", f"{device}1", str(tmp_path / "dev" / "nvidiactl"), "socket:[17]")
    (proc / "self").mkdir()
    user = "root" if os.geteuid() == 0 else (proc / "7").owner()
    assert holders.of(device) == Seen(
        (OpenBy(7, "Xorg\N{REPLACEMENT CHARACTER}[2J", user), OpenBy(42, "game.exe", user))
    )


def test_a_process_without_a_name_or_a_user_that_is_known_is_told_all_the_same(
    holders: CardHolders, tmp_path: Path
) -> None:
    device = tmp_path / "dev" / "nvidia0"
    folder = a_process(tmp_path / "proc", 9, "gone", str(device))
    (folder / "comm").unlink()
    if os.geteuid() == 0:
        os.chown(folder, 54321, -1)
    found = holders.of(device)
    assert [(one.pid, one.name) for one in found.holders] == [(9, "unknown")]
    assert found.holders[0].user == ("54321" if os.geteuid() == 0 else folder.owner())


def test_what_has_ended_meanwhile_is_left_out(holders: CardHolders, tmp_path: Path) -> None:
    (tmp_path / "proc" / "11").mkdir()
    assert holders.of(tmp_path / "dev" / "nvidia0") == Seen()


# The child says that it has begun, and holds the file until its standard input ends.
HOLD = "import sys; held = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
LOOK = """
import os, sys
from pathlib import Path
from kloros_infra.adapters.card_holders import CardHolders
os.setgroups([]), os.setgid(65534), os.setuid(65534)
seen = CardHolders().of(Path(sys.argv[1]))
print(sorted(one.pid for one in seen.holders), seen.is_complete)
"""


def test_a_real_process_is_found_and_another_user_does_not_see_into_it(tmp_path: Path) -> None:
    device = tmp_path / "nvidia0"
    device.touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(device)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holding:
        assert holding.stdout
        holding.stdout.readline()
        found = CardHolders().of(device)
        assert [(one.pid, one.name.startswith("python")) for one in found.holders] == [(holding.pid, True)]
        if os.geteuid() == 0:
            looked = subprocess.run(
                [sys.executable, "-c", LOOK, str(device)], capture_output=True, text=True, check=True
            )
            assert looked.stdout == "[] False\n"
        holding.communicate(timeout=20)
