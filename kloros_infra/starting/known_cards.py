"""Figures of well-known cards, for a machine whose driver does not tell them.

From NVIDIA's data sheets. Where a name stands for several cards, the figures are those of the smallest that is common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MAKERS_WORDS = frozenset({"nvidia", "geforce", "tesla", "quadro"})


@dataclass(frozen=True, slots=True)
class Figures:
    """What placement needs to know of a card."""

    vram_gib: int
    bandwidth_gb_per_s: int
    compute_capability: tuple[int, int]


PASCAL, TURING, AMPERE, ADA, BLACKWELL = (6, 1), (7, 5), (8, 6), (8, 9), (12, 0)

KNOWN: Mapping[str, Figures] = {
    "gtx1070": Figures(8, 256, PASCAL),
    "gtx1080": Figures(8, 320, PASCAL),
    "gtx1080ti": Figures(11, 484, PASCAL),
    "p40": Figures(24, 346, PASCAL),
    "gtx1660ti": Figures(6, 288, TURING),
    "rtx2060": Figures(6, 336, TURING),
    "rtx2070": Figures(8, 448, TURING),
    "rtx2080": Figures(8, 448, TURING),
    "rtx2080ti": Figures(11, 616, TURING),
    "t4": Figures(15, 320, TURING),
    "rtx3060": Figures(12, 360, AMPERE),
    "rtx3060ti": Figures(8, 448, AMPERE),
    "rtx3070": Figures(8, 448, AMPERE),
    "rtx3080": Figures(10, 760, AMPERE),
    "rtx3080ti": Figures(12, 912, AMPERE),
    "rtx3090": Figures(24, 936, AMPERE),
    "rtx-a6000": Figures(48, 768, AMPERE),
    "a10": Figures(22, 600, AMPERE),
    "rtx4060": Figures(8, 272, ADA),
    "rtx4060ti": Figures(8, 288, ADA),
    "rtx4070": Figures(12, 504, ADA),
    "rtx4080": Figures(16, 716, ADA),
    "rtx4090": Figures(24, 1008, ADA),
    "l4": Figures(22, 300, ADA),
    "l40s": Figures(44, 864, ADA),
    "rtx5060ti": Figures(8, 448, BLACKWELL),
    "rtx5070": Figures(12, 672, BLACKWELL),
    "rtx5070ti": Figures(16, 896, BLACKWELL),
    "rtx5080": Figures(16, 960, BLACKWELL),
    "rtx5090": Figures(32, 1792, BLACKWELL),
}


def short_name(name: str) -> str:
    """Shorten what the driver calls a card: NVIDIA GeForce GTX 1080 Ti → gtx1080ti; empty where nothing is left."""
    words = [word for word in re.split(r"[^a-z0-9.]+", name.lower()) if word and word not in _MAKERS_WORDS]
    joined = re.sub(r"^(rtx|gtx|gt)-(?=[0-9])", r"\1", "-".join(words))
    joined = re.sub(r"(?<=[0-9])-(?=ti\b)", "", joined)
    return re.sub(r"(?<=[0-9i])-(?=super\b)", "", joined)[:48].strip("-.")
