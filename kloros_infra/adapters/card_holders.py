"""Who has a card's device file open: every process that uses the card has, also one that holds none of its memory.

A driver cannot give a card away, to a virtual machine for example, before the last of them has closed it. Of
`/dev/nvidia-uvm` and the like, which all cards share, nobody can tell which card they are open for.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.pci import PROCFS, driver_facts
from kloros_infra.ir.card_facts import DeclaredCard

DEV = Path("/dev")
_NUMBER = re.compile(r"\d+")
# proc_pid_fd(5): of a file that was removed, as device files are with their driver, the name ends so.
_GONE = " (deleted)"
# The driver writes GPU-????????-… for what it has not read from a card yet.
_HIDDEN = "?"


@dataclass(frozen=True, slots=True)
class OpenBy:
    """A process that has a card's device file open, and whose it is."""

    pid: int
    name: str
    user: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Who has it open; `is_complete` says whether all processes could be looked into, as root can."""

    holders: tuple[OpenBy, ...] = ()
    is_complete: bool = True


class CardHolders:
    """Looks into the processes that /proc shows."""

    def __init__(self, *, dev: Path = DEV, proc: Path = PROCFS) -> None:
        self._dev = dev
        self._proc = proc

    def device(self, card: DeclaredCard) -> Path | None:
        """Name a card's device file; None where NVIDIA's driver does not have the card."""
        for address, facts in driver_facts(self._proc).items():
            there = facts.get("GPU UUID", _HIDDEN)
            # By its address alone, a card that was put into the slot of another would be taken for that one.
            is_meant = there == card.uuid if card.uuid and _HIDDEN not in there else address == card.pci
            if is_meant:
                minor = facts.get("Device Minor", "")
                return self._dev / f"nvidia{minor}" if minor.isdecimal() else None
        return None

    def of(self, device: Path) -> Seen:
        """Say who has a device file open."""
        names = {str(device), f"{device}{_GONE}"}
        holders, is_complete = [], True
        for folder in self._processes():
            try:
                if any(target in names for target in _open_files(folder)):
                    holders.append(OpenBy(int(folder.name), _name(folder), _user(folder)))
            except PermissionError:
                is_complete = False
            except OSError:
                continue  # it has ended meanwhile
        return Seen(tuple(sorted(holders, key=lambda holder: holder.pid)), is_complete)

    def _processes(self) -> Iterator[Path]:
        yield from (folder for folder in self._proc.iterdir() if _NUMBER.fullmatch(folder.name))


def _open_files(process: Path) -> Iterator[str]:
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(link.readlink())


def _name(process: Path) -> str:
    """Name a process as the kernel does; anybody names his, so the name cannot steer the terminal."""
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return "unknown"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)


def _user(process: Path) -> str:
    uid = process.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
