"""An NVML whose cards a test changes while a program runs: the library of nvml_scripted.c, and the file it reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.needed import need

SOURCE = Path(__file__).with_suffix(".c")
RTX_5080 = "card uuid=GPU-5a2b3c4d-0000-1111-2222-333344445555 pci=0000:01:00.0 total=17000000000"
RTX_3060 = "card uuid=GPU-6a2b3c4d-0000-1111-2222-333344445555 pci=0000:04:00.0 total=12000000000"


def build(folder: Path) -> Path:
    """Compile the library into a folder."""
    compiler = shutil.which("cc")
    need(compiler is not None, "a C compiler (apt-get install gcc libc6-dev)")
    assert compiler
    flags = ("-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, *flags, "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


class ScriptedNvml:
    """The script and the log of one test; `library` is the folder that `build` gave."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._script = folder / "script"
        self._log = folder / "log"
        self.say()

    def say(self, *lines: str) -> None:
        """Replace the script."""
        fresh = self._script.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
        fresh.replace(self._script)

    def asked(self) -> list[str]:
        """Give what programs asked of the library, and forget it."""
        if not self._log.exists():
            return []
        lines = [line.strip() for line in self._log.read_text().splitlines()]
        self._log.unlink()
        return lines

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables under which a new process has this library."""
        told = {"FAKE_NVML_SCRIPT": str(self._script), "FAKE_NVML_LOG": str(self._log)}
        return {**os.environ, **told, "LD_LIBRARY_PATH": str(self._library)}
