"""For which cards a build of llama.cpp was compiled, read from the files themselves: no card is woken, nothing is run.

CUDA's code lies in a section of its own, as a row of containers, one for each source file, with an entry for each
target. The heads are those of CUDA's fatbinary_section.h and fatBinaryHeader; entries carry the target's number.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.elf_file import ElfFile, NotElfError, Section, opened_elf
from kloros_infra.adapters.programs import Program
from kloros_infra.doctor.facts import Capability, CudaBuild

SECTION = ".nv_fatbin"
LIBRARY = "libggml-cuda*.so*"
OTHER_BACKENDS = ("vulkan", "hip", "sycl", "musa", "opencl", "metal", "cann", "rpc")
_CONTAINER_MAGIC = 0xBA55ED50
# Magic, version, size of this head, size of all entries.
_CONTAINER = struct.Struct("<IHHQ")
# Kind, version, size of this head, size of the code; the target's number stands 28 bytes in.
_ENTRY = struct.Struct("<HHIQ12xI")
_PTX, _MACHINE_CODE = 1, (2, 16)
# Containers begin at multiples of it.
_STEP = 8
_STRANGE = "its CUDA code is in a form that is not known"
_RUNTIME = re.compile(r"libcudart\.so\.(\d+)")


@dataclass(frozen=True, slots=True)
class Built:
    """What a program was built with: CUDA, or None, and the names of other kinds of devices."""

    cuda: CudaBuild | None
    others: tuple[str, ...] = ()


def read_build(program: Program) -> Built:
    """Find out what a llama-server was built with; raise NotElfError for a script, OSError for what cannot be read."""
    path = Path(program.path).resolve()
    with opened_elf(path) as elf:
        own = _build(path, elf)
        folders = tuple(_folders(path, elf, program.library_path))
    if own is not None:
        return Built(own)
    found = [build for file in _files(folders, LIBRARY) if (build := _build_of(file)) is not None]
    others = [name for name in OTHER_BACKENDS if any(True for _ in _files(folders, f"libggml-{name}*.so*"))]
    return Built(found[0] if found else None, tuple(others))


def _folders(program: Path, elf: ElfFile, library_path: str | None) -> Iterator[Path]:
    """List where a program's libraries and backends are looked for: what it names first, then the usual places."""
    here = program.parent
    given = [library_path] if library_path else []
    named = (path.replace("$ORIGIN", str(here)).replace("${ORIGIN}", str(here)) for path in elf.search_paths())
    near = (here, here.parent / "lib", here.parent / "lib64", *here.parent.glob("lib/*-linux-gnu"))
    for folder in dict.fromkeys(path.resolve() for path in (*map(Path, (*given, *named)), *near)):
        yield folder
        yield from (folder / "ggml", folder / "llama.cpp")
        yield from sorted(folder.glob("ggml/backends*"))


def _files(folders: Iterable[Path], pattern: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(file for file in folder.glob(pattern) if file.is_file())


def _build_of(file: Path) -> CudaBuild | None:
    try:
        with opened_elf(file) as elf:
            return _build(file, elf)
    except NotElfError:
        return None


def _build(file: Path, elf: ElfFile) -> CudaBuild | None:
    section = elf.section(SECTION)
    if section is None:
        return None
    targets = sorted(set(_targets(elf, section)))
    majors = [int(found[1]) for name in elf.needed() if (found := _RUNTIME.match(name))]
    return CudaBuild(
        str(file),
        machine_code=tuple(_capability(number) for kind, number in targets if kind in _MACHINE_CODE),
        ptx=tuple(_capability(number) for kind, number in targets if kind == _PTX),
        runtime=majors[0] if majors else None,
    )


def _targets(elf: ElfFile, section: Section) -> Iterator[tuple[int, int]]:
    """Give (kind, number of the target) of each entry, reading heads alone."""
    at, end = section.offset, section.offset + section.size
    while at + _CONTAINER.size <= end:
        magic, _, head, size = _CONTAINER.unpack_from(elf.data, at)
        if magic != _CONTAINER_MAGIC:
            at += _STEP
            continue
        if head < _CONTAINER.size:
            raise NotElfError(_STRANGE)
        entry, at = at + head, at + head + size
        while entry + _ENTRY.size <= min(at, end):
            kind, _, entry_head, code, number = _ENTRY.unpack_from(elf.data, entry)
            if entry_head < _ENTRY.size:
                raise NotElfError(_STRANGE)
            yield kind, number
            entry += entry_head + code


def _capability(number: int) -> Capability:
    return number // 10, number % 10
