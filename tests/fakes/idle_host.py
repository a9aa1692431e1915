"""A processor that a real llama-server finds idle: idle_host.cpp, to be preloaded."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.needed import need

SOURCE = Path(__file__).with_suffix(".cpp")


def build_idle_host(folder: Path) -> Path:
    """Compile it into a folder."""
    compiler = shutil.which("g++")
    need(compiler is not None, "a C++ compiler (apt-get install g++)")
    assert compiler
    library = folder / "libidle-host.so"
    flags = ("-std=c++17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, *flags, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def idling(library: Path) -> Mapping[str, str]:
    """Give the variables for a llama-server that maps what goes to the CPU, whatever its plan says of that."""
    return {"LD_PRELOAD": str(library), "LLAMA_ARG_LOAD_MODE": "mmap", "LLAMA_ARG_MMAP": "true"}
