"""Figures of NVIDIA cards from Pascal to Blackwell, by the short names of what the driver calls them.

Bandwidth, throughput, capability and link are those of NVIDIA's data sheets and architecture papers (GP100, GV100,
TU102, GA102, A100, AD102, H100, RTX Blackwell). Throughput is of FP16 matrices without sparsity: on tensor cores with
FP16 sums where a GeForce is faster with these, before Volta of FP32. Where a name stands for several cards, the
figures are those of the smallest that is common. models.yaml can say otherwise for each card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MIB = 2**20
GIGA = 10**9
TERA = 10**12

_MAKERS_WORDS = frozenset({"nvidia", "geforce", "tesla", "quadro"})
# In one direction, after encoding: PCI Express 3.0 and later send 128 of 130 bits as data.
_LANE_BYTES_PER_S = {3: 984_600_000, 4: 1_969_200_000, 5: 3_938_400_000}
_TURING = (7, 5)
# What the driver keeps for itself. CUDA sees 15880 MiB of an RTX 5080, 11906 of an RTX 3060 and 11165 of a
# GTX 1080 Ti (public logs), 7805 of an RTX 4070 Laptop (llama.cpp, pull request 20184).
_KEPT_MIB, _KEPT_BEFORE_TURING_MIB, _KEPT_SHARE = 512, 128, 0.01
_SEEN_MIB: Mapping[str, int] = {"gtx1080ti": 11165, "rtx3060": 11906, "rtx5080": 15880}
# A written amount this close to the table's means the same card, and not one with other memory.
_SAME_CARD_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class CardFigures:
    """What a data sheet says; `memory_mib` is what nvidia-smi shows, or the nominal amount."""

    memory_mib: int
    bandwidth_gb_per_s: float
    tflops: float
    compute_capability: tuple[int, int]
    pcie_generation: int
    pcie_lanes: int = 16

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * MIB

    @property
    def bandwidth_bytes_per_s(self) -> int:
        return round(self.bandwidth_gb_per_s * GIGA)

    @property
    def link_bytes_per_s(self) -> int:
        return _LANE_BYTES_PER_S[self.pcie_generation] * self.pcie_lanes


def _pascal(gib: int, bandwidth: float, tflops: float, *, capability: tuple[int, int] = (6, 1)) -> CardFigures:
    return CardFigures(gib * 1024, bandwidth, tflops, capability, 3)


def _volta(gib: int, bandwidth: float, tflops: float) -> CardFigures:
    return CardFigures(gib * 1024, bandwidth, tflops, (7, 0), 3)


def _turing(gib: int, bandwidth: float, tflops: float) -> CardFigures:
    return CardFigures(gib * 1024, bandwidth, tflops, _TURING, 3)


def _ampere(mib: int, bandwidth: float, tflops: float, *, lanes: int = 16) -> CardFigures:
    return CardFigures(mib, bandwidth, tflops, (8, 6), 4, lanes)


def _a100(mib: int, bandwidth: float, tflops: float = 312) -> CardFigures:
    return CardFigures(mib, bandwidth, tflops, (8, 0), 4)


def _ada(mib: int, bandwidth: float, tflops: float, *, lanes: int = 16) -> CardFigures:
    return CardFigures(mib, bandwidth, tflops, (8, 9), 4, lanes)


def _hopper(mib: int, bandwidth: float, tflops: float) -> CardFigures:
    return CardFigures(mib, bandwidth, tflops, (9, 0), 5)


def _blackwell(mib: int, bandwidth: float, tflops: float, *, lanes: int = 16) -> CardFigures:
    return CardFigures(mib, bandwidth, tflops, (12, 0), 5, lanes)


CARDS: Mapping[str, CardFigures] = {
    "gtx1050ti": _pascal(4, 112, 2.1),
    "gtx1060-3gb": _pascal(3, 192, 3.9),
    "gtx1060-6gb": _pascal(6, 192, 4.4),
    "gtx1070": _pascal(8, 256, 6.5),
    "gtx1070ti": _pascal(8, 256, 8.2),
    "gtx1080": _pascal(8, 320, 8.9),
    "gtx1080ti": _pascal(11, 484, 11.3),
    "titan-xp": _pascal(12, 548, 12.1),
    "p6000": _pascal(24, 432, 12.6),
    "p4": _pascal(8, 192, 5.5),
    "p40": _pascal(24, 346, 11.8),
    "p100-pcie-16gb": _pascal(16, 732, 9.3, capability=(6, 0)),
    "p100-sxm2-16gb": _pascal(16, 732, 10.6, capability=(6, 0)),
    "titan-v": _volta(12, 653, 110),
    "v100-pcie-16gb": _volta(16, 900, 112),
    "v100-pcie-32gb": _volta(32, 900, 112),
    "v100-sxm2-16gb": _volta(16, 900, 125),
    "v100-sxm2-32gb": _volta(32, 900, 125),
    # Without tensor cores: FP16 runs at twice the rate of FP32.
    "gtx1650": _turing(4, 128, 6.0),
    "gtx1660": _turing(6, 192, 10.0),
    "gtx1660super": _turing(6, 336, 10.0),
    "gtx1660ti": _turing(6, 288, 11.0),
    "rtx2060": _turing(6, 336, 51.6),
    "rtx2060super": _turing(8, 448, 57.4),
    "rtx2070": _turing(8, 448, 59.7),
    "rtx2070super": _turing(8, 448, 72.5),
    "rtx2080": _turing(8, 448, 80.5),
    "rtx2080super": _turing(8, 496, 89.2),
    "rtx2080ti": _turing(11, 616, 107.6),
    "titan-rtx": _turing(24, 672, 130.5),
    "rtx5000": _turing(16, 448, 89.2),
    "rtx6000": _turing(24, 672, 130.5),
    "rtx8000": _turing(48, 672, 130.5),
    "t4": _turing(15, 320, 65),
    "rtx3050": _ampere(8192, 224, 36.4, lanes=8),
    "rtx3060": _ampere(12288, 360, 51.2),
    "rtx3060ti": _ampere(8192, 448, 64.8),
    "rtx3070": _ampere(8192, 448, 81.3),
    "rtx3070ti": _ampere(8192, 608, 87.0),
    "rtx3080": _ampere(10240, 760, 119),
    "rtx3080ti": _ampere(12288, 912, 136),
    "rtx3090": _ampere(24576, 936, 142),
    "rtx3090ti": _ampere(24576, 1008, 160),
    "rtx-a2000": _ampere(6144, 288, 32.0),
    "rtx-a2000-12gb": _ampere(12288, 288, 32.0),
    "rtx-a4000": _ampere(16384, 448, 76.7),
    "rtx-a4500": _ampere(20480, 640, 94.6),
    "rtx-a5000": _ampere(24576, 768, 111),
    "rtx-a6000": _ampere(49152, 768, 155),
    "a10": _ampere(23028, 600, 125),
    "a40": _ampere(46068, 696, 150),
    "a30": _a100(24576, 933, 165),
    "a100-pcie-40gb": _a100(40960, 1555),
    "a100-sxm4-40gb": _a100(40960, 1555),
    "a100-80gb-pcie": _a100(81920, 1935),
    "a100-sxm4-80gb": _a100(81920, 2039),
    "rtx4060": _ada(8192, 272, 60.5, lanes=8),
    "rtx4060ti": _ada(8192, 288, 88.3, lanes=8),
    "rtx4070": _ada(12288, 504, 117),
    "rtx4070super": _ada(12288, 504, 142),
    "rtx4070ti": _ada(12288, 504, 160),
    "rtx4070tisuper": _ada(16384, 672, 176),
    "rtx4080": _ada(16384, 716.8, 195),
    "rtx4080super": _ada(16384, 736, 209),
    "rtx4090": _ada(24576, 1008, 330),
    "rtx2000-ada-generation": _ada(16380, 224, 48, lanes=8),
    "rtx4000-ada-generation": _ada(20475, 360, 107),
    "rtx4500-ada-generation": _ada(24570, 432, 158),
    "rtx5000-ada-generation": _ada(32760, 576, 261),
    "rtx6000-ada-generation": _ada(49140, 960, 364),
    "l4": _ada(23034, 300, 121),
    "l40": _ada(46068, 864, 181),
    "l40s": _ada(46068, 864, 362),
    "h100-pcie": _hopper(81559, 2039, 756),
    "h100-80gb-hbm3": _hopper(81559, 3350, 989),
    "h100-nvl": _hopper(95830, 3938, 835),
    "h200": _hopper(143771, 4800, 989),
    "h200-nvl": _hopper(143771, 4800, 835),
    "b200": CardFigures(183359, 8000, 2250, (10, 0), 5),
    "rtx5060": _blackwell(8192, 448, 76.8, lanes=8),
    "rtx5060ti": _blackwell(8192, 448, 94.9, lanes=8),
    "rtx5070": _blackwell(12288, 672, 124),
    "rtx5070ti": _blackwell(16384, 896, 176),
    "rtx5080": _blackwell(16384, 960, 225),
    "rtx5090": _blackwell(32768, 1792, 419),
    "rtx-pro-6000-blackwell-workstation-edition": _blackwell(97887, 1792, 504),
}
"""What is known, by short name."""


def short_name(name: str) -> str:
    """Shorten what the driver calls a card: NVIDIA GeForce GTX 1080 Ti → gtx1080ti; empty where nothing is left."""
    words = [word for word in re.split(r"[^a-z0-9.]+", name.lower()) if word and word not in _MAKERS_WORDS]
    joined = re.sub(r"^(rtx|gtx|gt)-(?=[0-9])", r"\1", "-".join(words))
    joined = re.sub(r"(?<=[0-9])-(?=ti\b)", "", joined)
    return re.sub(r"(?<=[0-9i])-(?=super\b)", "", joined)[:48].strip("-.")


def figures_of(name: str) -> CardFigures | None:
    """Look a card up by what the driver calls it, or by its short name."""
    return CARDS.get(short_name(name))


def seen_by_cuda(name: str, written_bytes: int) -> int:
    """Say how much of a card's memory CUDA sees: nominal amounts count what the driver keeps for itself as well."""
    figures = figures_of(name)
    if figures is None or abs(written_bytes / figures.memory_bytes - 1) > _SAME_CARD_SHARE:
        return written_bytes
    return min(written_bytes, _seen_mib(short_name(name), figures) * MIB)


def _seen_mib(name: str, figures: CardFigures) -> int:
    kept = _KEPT_MIB if figures.compute_capability >= _TURING else _KEPT_BEFORE_TURING_MIB
    rule = figures.memory_mib - max(kept, round(_KEPT_SHARE * figures.memory_mib))
    return _SEEN_MIB.get(name, rule)
