"""This machine's processor and memory, from /proc: see proc_cpuinfo(5) and proc_meminfo(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """What llama.cpp runs on where there is no card; 0 and empty where /proc does not tell."""

    processor: str
    thread_count: int
    memory_bytes: int


def read_host(procfs: Path = Path("/proc")) -> Host:
    """Read processor and memory."""
    processors = _text(procfs / "cpuinfo")
    # Only x86 names its processor here; on others the first line of that kind is the next best.
    name = re.search(r"^(?:model name|Model|Hardware)\s*:[ \t]*(.+)$", processors, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+([0-9]+) kB$", _text(procfs / "meminfo"), re.MULTILINE)
    return Host(
        processor=" ".join(name[1].split()) if name else "",
        thread_count=len(re.findall(r"^processor\s*:", processors, re.MULTILINE)),
        # "kB" is 1024 bytes there.
        memory_bytes=int(memory[1]) * 1024 if memory else 0,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
