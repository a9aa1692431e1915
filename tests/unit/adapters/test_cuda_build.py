"""For which cards a build is, read from real ELF files with CUDA's containers in them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kloros_infra.adapters.cuda_build import Built, read_build
from kloros_infra.adapters.elf_file import NotElfError, opened_elf
from kloros_infra.adapters.programs import Program
from kloros_infra.doctor.facts import CudaBuild
from tests.needed import need

# Heads as they stand in two published builds of ggml's CUDA backend: of node-llama-cpp 3.22.1 (CUDA 13: PTX for 7.5 and
# 9.0, machine code for 8.6 and 12.0) and of cyllama-cuda12 0.2.18 (CUDA 12: machine code for 7.5).
PTX_75 = (
    "010001015000000030270000000000003027000040000000010009004b000000000000000000000011800000000000000000000000000000"
    "d28501000000000048000000000000000000000000000000"
)
PTX_90 = (
    "0100010150000000f026000000000000f026000040000000010009005a000000000000000000000011800000000000000000000000000000"
    "d28501000000000048000000000000000000000000000000"
)
CODE_86 = (
    "020001014000000050280000000000004b280000000000000800010056000000000000000000000011800000000000000000000000000000"
    "c88a000000000000"
)
CODE_120 = (
    "0200010168000000a02b0000000000009e2b0000400000000800010078000000000000000000000011801001000000000000000000000000"
    "e09e000000000000480000001c0000000002090100020202000307010102030000040b08001000000000000000000000"
)
CODE_75 = (
    "0200010148000000c8880000000000000000000000000000070001004b000000000000000000000011000000000000000000000000000000"
    "00000000000000000000000000000000"
)
MAGIC = 0xBA55ED50


def container(*heads: str) -> bytes:
    """Write a container of entries, with as much code behind each as its head says."""
    entries = b"".join((head := bytes.fromhex(text)) + bytes(struct.unpack_from("<Q", head, 8)[0]) for text in heads)
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(entries)) + entries


TWO_FILES = container(PTX_75, CODE_86) + bytes(24) + container(PTX_90, CODE_120, CODE_86)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("cc") is not None, "a C compiler (apt-get install gcc libc6-dev)")
    need(shutil.which("objcopy") is not None, "objcopy (apt-get install binutils)")
    folder = tmp_path_factory.mktemp("elf")
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    for major in (12, 13):
        name = f"libcudart.so.{major}"
        run("cc", "-shared", "-o", folder / name, f"-Wl,-soname,{name}", folder / "main.c")
    return folder


def run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True)


def build(workshop: Path, file: Path, *, content: bytes | None = None, runtime: int | None = None) -> Path:
    """Compile a program that may be linked with CUDA's runtime, and may hold code for cards."""
    file.parent.mkdir(parents=True, exist_ok=True)
    linked = () if runtime is None else ("-Wl,--no-as-needed", f"-L{workshop}", f"-l:libcudart.so.{runtime}")
    run("cc", "-o", file, workshop / "main.c", *linked, "-Wl,-rpath,$ORIGIN/../lib/private")
    if content is not None:
        blob = file.with_name("blob")
        blob.write_bytes(content)
        run("objcopy", "--add-section", f".nv_fatbin={blob}", file)
    return file


def test_a_program_with_cuda_in_itself_says_for_which_cards(workshop: Path, tmp_path: Path) -> None:
    server = build(workshop, tmp_path / "llama-server", content=TWO_FILES, runtime=13)

    expected = CudaBuild(str(server), machine_code=((8, 6), (12, 0)), ptx=((7, 5), (9, 0)), runtime=13)
    assert read_build(Program(str(server))) == Built(expected)


@pytest.mark.parametrize(
    "place", ["bin/libggml-cuda.so.0", "lib/libggml-cuda.so", "lib/private/libggml-cuda.so", "lib/ggml/libggml-cuda.so"]
)
def test_the_backend_is_found_where_the_program_finds_it(workshop: Path, tmp_path: Path, place: str) -> None:
    server = build(workshop, tmp_path / "bin" / "llama-server")
    backend = build(workshop, tmp_path / place, content=container(CODE_75), runtime=12)
    (tmp_path / "bin" / "libggml-rpc.so").touch()

    found = read_build(Program(str(server)))
    assert found == Built(CudaBuild(str(backend), machine_code=((7, 5),), runtime=12), ("rpc",))


def test_the_folder_of_its_libraries_comes_first(workshop: Path, tmp_path: Path) -> None:
    server = build(workshop, tmp_path / "bin" / "llama-server")
    build(workshop, tmp_path / "bin" / "libggml-cuda.so", content=container(CODE_75))
    own = build(workshop, tmp_path / "own" / "libggml-cuda.so", content=container(CODE_86))

    found = read_build(Program(str(server), str(tmp_path / "own")))
    assert found.cuda == CudaBuild(str(own), machine_code=((8, 6),))


def test_a_build_without_cuda_names_its_other_backends(workshop: Path, tmp_path: Path) -> None:
    server = build(workshop, tmp_path / "llama-server")
    for name in ("libggml-vulkan.so", "libggml-cpu.so", "libggml-cuda.so"):
        (tmp_path / name).write_text("no library")

    assert read_build(Program(str(server))) == Built(None, ("vulkan",))


@pytest.mark.parametrize(
    "text", [b"#!/bin/sh\n", b"", b"\x7fELF", b"\x7fELF" + bytes(200), b"\x7fELF\x02\x01" + b"\xff" * 99]
)
def test_what_is_no_program_is_said_to_be_none(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "llama-server"
    file.write_bytes(text)

    with pytest.raises(NotElfError):
        read_build(Program(str(file)))


def test_a_damaged_file_is_said_to_be_none(workshop: Path, tmp_path: Path) -> None:
    whole = build(workshop, tmp_path / "whole", content=TWO_FILES).read_bytes()
    for length in range(100, len(whole), max(1, len(whole) // 40)):
        file = tmp_path / "cut"
        file.write_bytes(whole[:length])
        with pytest.raises(NotElfError):
            read_build(Program(str(file)))


def test_containers_that_lie_are_read_no_further_than_they_go(workshop: Path, tmp_path: Path) -> None:
    torn = container(CODE_86)[:120]
    strange = (struct.pack("<IHHQ", MAGIC, 1, 16, 64) + bytes(64), struct.pack("<IHHQ", MAGIC, 1, 0, 0) + bytes(64))

    found = read_build(Program(str(build(workshop, tmp_path / "torn", content=torn))))
    assert found.cuda is not None
    assert found.cuda.machine_code == ((8, 6),)
    for content in strange:
        with pytest.raises(NotElfError, match="not known"):
            read_build(Program(str(build(workshop, tmp_path / "strange", content=content))))


def test_a_file_of_this_machine_names_its_sections(workshop: Path, tmp_path: Path) -> None:
    with opened_elf(build(workshop, tmp_path / "one", runtime=12)) as elf:
        assert elf.section(".text") is not None
        assert elf.section(".nv_fatbin") is None
        assert "libcudart.so.12" in elf.needed()
        assert elf.search_paths() == ("$ORIGIN/../lib/private",)
