"""Pretend NVIDIA cards for a real llama-server: the backend of fakecuda.cpp, compiled for the pinned build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.needed import need

SOURCE = Path(__file__).with_suffix(".cpp")
HEADERS = Path(sys.prefix) / "ggml"
"""Where scripts/ggml-headers puts them."""


@dataclass(frozen=True, slots=True)
class PretendCard:
    """A card as CUDA shows it; `capability` is a hundred times the compute capability, `uuid` need not be known."""

    description: str
    capability: int
    total_mib: int
    free_mib: int
    uuid: str = ""

    def __str__(self) -> str:
        facts = f"{self.description}:{self.capability}:{self.total_mib}:{self.free_mib}"
        return f"{facts}:{self.uuid}" if self.uuid else facts


# Totals as CUDA sees them, not as nvidia-smi does: 423 MiB less on a 5080.
RTX_5080 = PretendCard("NVIDIA GeForce RTX 5080", 1200, 15880, 15500)
RTX_3060 = PretendCard("NVIDIA GeForce RTX 3060", 860, 11906, 11650)
GTX_1080_TI = PretendCard("NVIDIA GeForce GTX 1080 Ti", 610, 11165, 10950)
KLOROS_CARDS = (RTX_5080, RTX_3060, GTX_1080_TI)


def build_fakecuda(folder: Path) -> Path:
    """Compile the backend into a folder."""
    compiler = shutil.which("g++")
    need(compiler is not None, "a C++ compiler (apt-get install g++)")
    need((HEADERS / "complete").is_file(), f"ggml's headers (scripts/ggml-headers {sys.executable} {HEADERS})")
    assert compiler
    library = folder / "libggml-fakecuda.so"
    flags = ("-std=c++17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-I", HEADERS)
    # ggml's functions are those of the llama-server that loads it.
    subprocess.run([compiler, *flags, "-o", library, SOURCE, "-Wl,--unresolved-symbols=ignore-all"], check=True)
    return library


def pretending(
    library: Path, cards: Sequence[PretendCard], *, discards: bool = False, token_us: int = 0
) -> Mapping[str, str]:
    """Give the variables that make a llama-server see these cards.

    `discards` loads any size and computes nothing; each token takes `token_us` longer, at no cost to the processor.
    """
    variables = {"GGML_BACKEND_PATH": str(library), "FAKECUDA": ";".join(map(str, cards))}
    variables |= {"FAKECUDA_DISCARD": "1"} if discards else {}
    return {**variables, "FAKECUDA_PAUSE_US": str(token_us)} if token_us else variables
