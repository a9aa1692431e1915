"""What slows cards down, through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needed import need

SOURCE = Path(__file__).parents[1] / "fakes" / "nvml_hot.c"
# The library is chosen when the process starts.
ASK = """
from kloros_infra.adapters.nvml_brakes import read_brakes
from kloros_infra.ir.card_facts import DeclaredCard
cards = [DeclaredCard("a", uuid="GPU-a"), DeclaredCard("b", pci="0000:04:00.0"), DeclaredCard("c", uuid="GPU-c")]
try:
    print([(brake.card, brake.reason) for brake in read_brakes(cards)])
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("cc") is not None, "a C compiler (apt-get install gcc libc6-dev)")
    folder = tmp_path_factory.mktemp("nvml")
    flags = ("-D_GNU_SOURCE", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run(["cc", *flags, "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
    return folder


def ask(library: Path, **variables: str) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), **variables}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_heat_counts_and_nothing_else(library: Path) -> None:
    # 0x40 is the hardware's slowdown for heat, 0x20 the driver's, 0x04 the power limit (nvml.h).
    told = ask(library, FAKE_NVML_HOT="GPU-a=0x64;0000:04:00.0=0x4;GPU-c=0x20")

    assert told == (
        "[('a', 'its hardware slows it down, it is too hot'), ('a', 'the driver slows it down, it is too hot'),"
        " ('c', 'the driver slows it down, it is too hot')]"
    )


def test_a_card_that_does_not_say_is_no_problem(library: Path) -> None:
    assert ask(library, FAKE_NVML_HOT="GPU-a=!3;GPU-c=0") == "[]"


def test_an_nvml_that_refuses_says_so(library: Path) -> None:
    assert ask(library).startswith("NVML does not answer")
