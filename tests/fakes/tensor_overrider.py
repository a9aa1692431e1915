#!/usr/bin/env python3
"""Stands in for gguf-tensor-overrider: run as a program, it takes the same options and answers as the real one does.

What that is was found by running it (commit 3e230e0): see tests/contract/test_tensor_overrider.py, which holds both to
it. Messages are those that a caller can meet, without Node.js's stack traces.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import httpx
from gguf.constants import GGMLQuantizationType

from kloros_infra.adapters.gguf_reader import Array, MalformedError, RawHeader, Row, read_raw

CHUNK_BYTES = 2_000_000
MIB = 2**20
SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)\.gguf")
OPTIONS = {
    "-g": "--gguf-url",
    "-c": "--context-length",
    "--gguf-url": "-g, --gguf-url <url>",
    "--context-length": "-c, --context-length <length>",
    "--context-quantization-size": "--context-quantization-size <size>",
    "--gpu-percentage": "--gpu-percentage <percentage>",
    "--granular-gpu-percentage": "--granular-gpu-percentage <percentage>",
}
FLAGS = {"--verbose", "--no-check"}
# Bytes of a value, as the tool has them: some are not those of ggml, and newer types are not there.
TYPE_BYTES = {
    "F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "Q4_0": 0.5625, "Q4_1": 0.625,
    "Q5_0": 0.6875, "Q5_1": 0.75, "Q8_0": 1.0625, "Q8_1": 1.125, "Q2_K": 0.359375, "Q3_K": 0.4375, "Q4_K": 0.5625,
    "Q5_K": 0.6875, "Q6_K": 0.8125, "Q8_K": 1.0, "IQ1_M": 0.1953125, "IQ1_S": 0.22265625, "IQ2_XXS": 0.2734375,
    "IQ2_XS": 0.3046875, "IQ2_S": 0.3125, "IQ3_XXS": 0.40234375, "IQ3_S": 0.44140625, "IQ4_NL": 0.5,
    "IQ4_XS": 0.53125, "TQ1_0": 0.5, "TQ2_0": 0.25,
}  # fmt: skip


def give_up(message: str) -> NoReturn:
    """End as the tool does when it cannot go on."""
    sys.stderr.write(f"{message}\n")
    sys.exit(1)


def read_options(words: list[str]) -> Mapping[str, str]:
    """Read the command line."""
    found: dict[str, str] = {}
    rest, excess = iter(words), 0
    for word in rest:
        name = OPTIONS.get(word, word) if len(word) == 2 else word
        if name in FLAGS:
            found[name] = "yes"
        elif name in OPTIONS:
            value = next(rest, None)
            if value is None:
                give_up(f"error: option '{OPTIONS[name]}' argument missing")
            found[name] = value
        elif word.startswith("-"):
            give_up(f"error: unknown option '{word}'")
        else:
            excess += 1
    if excess:
        give_up(f"error: too many arguments. Expected 0 arguments but got {excess}.")
    return found


def check_options(options: Mapping[str, str]) -> list[float] | None:
    """Check values one after the other; give the share of each card, where they are given."""
    if not options.get("--gguf-url"):
        give_up("[ERROR] GGUF URL is required. Please provide a valid URL.")
    if not options.get("--context-length"):
        give_up("[ERROR] Context length is required. Please provide a valid length.")
    if options.get("--context-quantization-size", "16") not in {"4", "8", "16"}:
        give_up("[ERROR] Context quantization size must be one of 4, 8, or 16. Please provide a valid size.")
    if "--gpu-percentage" in options and "--granular-gpu-percentage" in options:
        give_up("[ERROR] You cannot use both --gpu-percentage and --granular-gpu-percentage options at the same time.")
    if "--granular-gpu-percentage" not in options:
        return None
    shares = options["--granular-gpu-percentage"].split(",")
    for share in shares:
        if not re.match(r"\s*(0(\.\d*)?|\.\d+|1(\.0*)?)", share) or float(share) > 1:
            give_up(f"[ERROR] Invalid GPU percentage: {share}. It should be a number between 0 and 1.")
    return [float(share) for share in shares]


class UrlFile:
    """A file behind a URL, fetched in pieces of 2 MB from the beginning on."""

    def __init__(self, url: str) -> None:
        self.name = url
        self.size_bytes = 0
        self._held = bytearray()
        self._fetch()

    def read(self, start: int, length: int) -> bytes:
        while len(self._held) < min(start + length, self.size_bytes):
            self._fetch()
        return bytes(self._held[start : start + length])

    def _fetch(self) -> None:
        first = len(self._held)
        wanted = {"Range": f"bytes={first}-{first + CHUNK_BYTES - 1}"}
        try:
            answer = httpx.get(self.name, headers=wanted, trust_env=False)
        except httpx.TransportError as error:
            give_up(f"TypeError: fetch failed\n  cause: {error}")
        # Whatever else comes is taken for the file, and is none.
        self._held += answer.content
        whole = answer.headers.get("Content-Range", f"/{len(self._held)}")
        self.size_bytes = int(whole.rpartition("/")[2])


def read_gguf(url: str, note: Callable[[str], None]) -> tuple[RawHeader, list[Row]]:
    """Read a header, or those of all parts."""
    shard = SHARD.match(url)
    total = int(shard[3]) if shard else 1
    urls = [f"{shard[1]}-{part:05}-of-{total:05}.gguf" for part in range(1, total + 1)] if shard else [url]
    headers = []
    for part, one in enumerate(urls, start=1):
        if shard:
            note(f"Downloading part {part} of {total} from {one}")
        if not re.match("https?://", one):
            give_up("Error: Access to local file is not enabled, please set allowLocalFile to true")
        try:
            headers.append(read_raw(UrlFile(one)))
        except MalformedError as error:
            give_up(f"Error: not a valid gguf file: {error}")
    return headers[0], [row for header in headers for row in header.rows]


@dataclass
class Device:
    """A card or the CPU; the more memory, the sooner it is filled."""

    name: str
    memory_bytes: float
    priority: int
    share: float = 0.9
    is_unlimited: bool = False
    taken_bytes: float = 0

    def has_room(self, size: float) -> bool:
        return self.is_unlimited or self.taken_bytes + size <= self.memory_bytes * self.share


@dataclass
class Allocator:
    """Gives each thing to the first device that has room."""

    devices: list[Device]
    where: dict[str, str] = field(default_factory=dict)

    def allocate(self, size: float, tensor: str | None = None) -> None:
        for device in sorted(self.devices, key=lambda one: -one.priority):
            if device.has_room(size):
                device.taken_bytes += size
                if tensor is not None:
                    self.where[tensor] = device.name
                return
        give_up(f"Error: Cannot allocate {size / MIB:.2f} MiB on any device.")


def find_cards() -> list[Device]:
    """Ask nvidia-smi on PATH."""
    call = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader"]
    try:
        asked = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError):
        give_up(f"Error: Command failed: {' '.join(call)}")
    found = []
    for line in asked.stdout.strip().split("\n"):
        index, _, memory = (part.strip() for part in line.split(","))
        size = int(memory.replace(" MiB", "")) * MIB
        found.append(Device(f"CUDA{int(index)}", size, size))
    return found


def size_of(row: Row) -> float:
    """Say what a tensor takes, by the tool's table."""
    known = {one.value: one.name for one in GGMLQuantizationType}
    bytes_of_one = TYPE_BYTES.get(known.get(row.type_number, ""))
    if bytes_of_one is None:
        give_up(f"Error: Unsupported quantization type: {row.type_number} in tensor {row.name}")
    return math.prod(row.shape) * bytes_of_one


def cache_bytes(header: RawHeader, context: int, bits: int) -> tuple[float, float]:
    """Say what keys and values take in all and in each layer; figures by layer give none (NaN)."""
    values = header.values

    def figure(key: str) -> float:
        value = values.get(f"{values['general.architecture']}.{key}")
        return math.nan if value is None or isinstance(value, Array | str) else float(value)

    layers, heads = figure("block_count"), figure("attention.head_count")
    head = figure("embedding_length") / heads if heads else math.nan
    whole = 2 * (bits / 8) * layers * context * figure("attention.head_count_kv") * head
    return whole, whole / layers


def by_block(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Sort tensors by the number in their name; others come in none."""
    blocks: dict[int, list[Row]] = {}
    for row in rows:
        _, _, rest = row.name.partition(".")
        number = rest.partition(".")[0]
        if number.isdecimal():
            blocks.setdefault(int(number), []).append(row)
    yield from (blocks[number] for number in sorted(blocks))


def is_dense_matrix(name: str) -> bool:
    return any(word in name for word in ("ffn", "feed_forward")) and not any(
        word in name for word in ("exp", "gate", "norm")
    )


def place(rows: list[Row], allocator: Allocator, layer_bytes: float) -> None:
    """Fill the devices: attention with its cache layer by layer, then one kind of tensor after the other."""
    cpu = allocator.devices[0]
    for row in rows:
        if row.name == "token_embd.weight":
            cpu.taken_bytes += size_of(row)
            allocator.where[row.name] = cpu.name
    for block in by_block(rows):
        allocator.allocate(layer_bytes)
        for row in block:
            if "attn" in row.name or "attention" in row.name:
                allocator.allocate(size_of(row), row.name)
    passes: tuple[Callable[[str], bool], ...] = (
        is_dense_matrix,
        lambda name: "gate" in name,
        lambda name: "norm" in name,
        lambda _: True,
    )
    for is_wanted in passes:
        for row in rows:
            if row.name not in allocator.where and is_wanted(row.name.lower()):
                allocator.allocate(size_of(row), row.name)


def main(words: list[str]) -> None:
    """Answer one call."""
    if words == ["--version"]:
        sys.stdout.write("1.0.0\n")
        return
    options = read_options(words)
    shares = check_options(options)

    def note(text: str) -> None:
        if "--verbose" in options:
            sys.stdout.write(f"[INFO] {text}\n")

    header, rows = read_gguf(options["--gguf-url"], note)
    cards = find_cards()
    share = float(options.get("--gpu-percentage", 0.9))
    for card in cards:
        card.share = share
    context, bits = int(options["--context-length"]), int(options.get("--context-quantization-size", "16"))
    whole_bytes, layer_bytes = cache_bytes(header, context, bits)
    ram_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    is_checked = "--no-check" not in options
    room = sum(card.memory_bytes for card in cards) * share + ram_bytes
    if is_checked and not whole_bytes + sum(map(size_of, rows)) <= room:
        give_up("Error: Model does not fit in combined GPU and RAM memory. Try reducing context length or quantization")
    if shares is not None:
        if len(shares) != len(cards):
            give_up(
                f"Error: Granular GPU percentages length ({len(shares)}) does not match number of GPUs ({len(cards)})."
            )
        for card, one in zip(cards, shares, strict=True):
            card.share = one
    allocator = Allocator([Device("CPU", ram_bytes, 0, 1.0, not is_checked), *cards])
    place(rows, allocator, layer_bytes)
    note("Final device allocation:")
    words_out = (f'-ot "{name}={where}"' for name, where in allocator.where.items())
    sys.stdout.write(" ".join(["-ngl 0", *words_out]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
