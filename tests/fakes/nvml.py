"""NVML as a library that pretends to have cards: nvidia-ml-py loads it as it loads NVIDIA's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.needed import need

SOURCE = Path(__file__).with_suffix(".c")
WITH_PROCESSES = Path(__file__).with_name("nvml_processes.c")
"""Cards with the memory in use on them, and the processes that hold it."""
GPU_IS_LOST = "!15"
DRIVER_NOT_LOADED = "9"
UUID_5080 = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
UUID_3060 = "GPU-6a2b3c4d-0000-1111-2222-333344445555"


def card(name: str, *facts: object) -> str:
    """Write a card for FAKE_NVML: UUID, bus id, bytes, MHz, bits, capability, MIG mode; empty where not supported."""
    return "|".join(map(str, (name, *facts)))


RTX_5080 = card(
    "NVIDIA GeForce RTX 5080",
    UUID_5080,
    "00000000:01:00.0",
    16303 * 2**20,
    *(15001, 256, "12.0", 0),
)
RTX_3060 = card(
    "NVIDIA GeForce RTX 3060",
    UUID_3060,
    "00000000:04:00.0",
    12 * 2**30,
    *(7501, 192, "8.6", ""),
)
GTX_1080_TI = card(
    "NVIDIA GeForce GTX 1080 Ti",
    "GPU-7a2b3c4d-0000-1111-2222-333344445555",
    "00000000:07:00.0",
    11 * 2**30,
    *(5505, 352, "6.1", ""),
)
H100_IN_MIG_MODE = card(
    "NVIDIA H100 80GB HBM3",
    "GPU-8a2b3c4d-0000-1111-2222-333344445555",
    "00000000:0A:00.0",
    81559 * 2**20,
    *(2619, 5120, "9.0", 1),
)


def compiled(source: Path, folder: Path) -> Path:
    """Compile a library into a folder from which nvidia-ml-py can load it; give the folder."""
    compiler = shutil.which("cc")
    need(compiler is not None, "a C compiler (apt-get install gcc libc6-dev)")
    assert compiler
    flags = ("-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, *flags, "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


class FakeNvml:
    """The library, compiled into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = compiled(SOURCE, folder)

    def environment(self, *cards: str) -> dict[str, str]:
        """Give the variables under which a new process sees these cards; a number alone refuses to start."""
        return {"LD_LIBRARY_PATH": str(self._folder), "FAKE_NVML": ";".join(cards)}
