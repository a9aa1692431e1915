"""Cards and the processor as the speed model sees them: how fast they read, multiply, and pass work on.

The factors are priors. Those of the RTX 5080, RTX 3060 and GTX 1080 Ti are fitted to published measurements of
llama.cpp (gpt-oss-20b on a 5080: 204.9 tok/s and 7477 tok/s of prompt, llama.cpp discussion 15396; a 7B Q4_0 on a P40:
56.8 and 912, pull request 4766; an 8B on a 1080 Ti: prompt about 1000). Those of other generations are estimates that
no measurement was fitted to. `Correction` replaces them by what a host measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from types import MappingProxyType

from kloros_infra.ir.catalog import Card, HostMemory, MeasuredSpeed
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.card_table import GIGA, TERA, figures_of
from kloros_infra.placement.remote import device_names

HOP_S = 40e-6
"""To hand work to another device: wait, copy, start again. 20 to 100 µs are plausible; plans hardly differ."""
RPC_HOP_S = 1e-3
"""Two passages of a local network and a graph that is sent along (llama.cpp, ggml/src/ggml-rpc)."""

# Weights of the processor's layers are in pinned memory (placement.arguments turns mapping off for such plans), from
# which copies get most of a slot. A card says what it could have, not what its slot is: taken for PCI Express 4.0 x16
# at most, unless models.yaml says it.
_LINK_EFFICIENCY = 0.8
_USUAL_LINK_BYTES_PER_S = 31_500_000_000
# 1.75 ms for 53 MB of experts, a hop to the CPU and one back included (llama.cpp with -ncmoe on DDR4-3200).
_CPU_EFFICIENCY = 0.62
# A prompt of a 7B at 55 tok/s on a Core i9-13900K (llama.cpp, issue 34).
_CPU_FLOPS = 0.7 * TERA
# Many small multiplications instead of a large one.
_EXPERT_SHARE = 0.55


@dataclass(frozen=True, slots=True)
class Generation:
    """Factors of one generation of cards.

    `efficiency` is the share of the memory's bandwidth that a token gets, `prompt_share` that of `tflops`.
    A layer costs so much beside what it reads: launches, where CUDA graphs do not spare them.
    """

    efficiency: float
    dense_layer_s: float
    expert_layer_s: float
    prompt_share: float
    tflops_per_gb_per_s: float
    """What a card of this generation is guessed to reach that is in no table and has no `tflops`."""


# llama.cpp uses CUDA graphs from compute capability 7.0 on.
_GENERATIONS: Mapping[tuple[int, int], Generation] = {
    (12, 0): Generation(0.78, 12e-6, 55e-6, 105 / 225, 0.2),
    (10, 0): Generation(0.60, 25e-6, 80e-6, 0.25, 0.28),
    (9, 0): Generation(0.60, 25e-6, 80e-6, 0.25, 0.25),
    (8, 9): Generation(0.80, 15e-6, 60e-6, 0.48, 0.25),
    (8, 6): Generation(0.85, 20e-6, 70e-6, 28 / 51.2, 0.14),
    (8, 0): Generation(0.60, 30e-6, 90e-6, 0.30, 0.15),
    (7, 5): Generation(0.80, 25e-6, 80e-6, 0.45, 0.15),
    (7, 0): Generation(0.72, 30e-6, 90e-6, 0.33, 0.13),
    # Without tensor cores; whole numbers of 8 bits are multiplied four at a time (dp4a), hence more than 1.
    (0, 0): Generation(0.72, 70e-6, 150e-6, 15 / 11.3, 0.023),
}


@dataclass(frozen=True, slots=True)
class Correction:
    """What a benchmark on the host found, as a multiple of the prior."""

    decode: float = 1.0
    prefill: float = 1.0
    link: float = 1.0


Corrections = Mapping[str, Correction]
"""By the card's name in models.yaml; the processor's is CPU."""
NO_CORRECTIONS: Corrections = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Device:
    """Something that holds layers; `name` is llama.cpp's, `card` the name in models.yaml.

    `usable_bytes` is None where memory does not limit. Reading and multiplying are what is reached, not the peak.
    """

    name: str
    card: str | None
    usable_bytes: int | None
    read_bytes_per_s: float
    flops_per_s: float
    dense_layer_s: float
    expert_layer_s: float
    link_bytes_per_s: float
    hop_s: float = HOP_S
    expert_share: float = _EXPERT_SHARE
    can_pipeline: bool = True
    takes_layers: bool = True
    """A processor whose memory is not known takes what it must, and no layers."""
    is_remote: bool = False
    """A card of another host gets no copies of the processor's weights, and sends its results over the network."""

    @property
    def is_cpu(self) -> bool:
        return self.name == CPU

    @property
    def is_sound(self) -> bool:
        """Say whether one can reckon with its figures."""
        rates = (self.read_bytes_per_s, self.flops_per_s, self.link_bytes_per_s)
        waits = (self.dense_layer_s, self.expert_layer_s, self.hop_s)
        return all(isfinite(rate) and rate > 0 for rate in rates) and all(
            isfinite(wait) and wait >= 0 for wait in waits
        )

    def holds(self, size_bytes: int) -> bool:
        return self.usable_bytes is None or size_bytes <= self.usable_bytes

    def without(self, taken_bytes: int) -> Device:
        """Leave out what another model takes."""
        if self.usable_bytes is None:
            return self
        return replace(self, usable_bytes=max(0, self.usable_bytes - taken_bytes))

    @property
    def kind(self) -> tuple[object, ...]:
        """Tell devices apart that differ in more than their names; alike ones are interchangeable."""
        return tuple(getattr(self, name) for name in self.__slots__ if name not in ("name", "card"))


def generation_of(compute_capability: tuple[int, int]) -> Generation:
    """Give the factors of the newest generation that is not newer than the card."""
    return next(factors for since, factors in _GENERATIONS.items() if compute_capability >= since)


def card_device(name: str, card: Card, correction: Correction | None = None) -> Device:
    """Describe a card: what models.yaml says of it, else the table, else a guess by its generation."""
    correction = correction or _written(card.measured)
    factors = generation_of(card.compute_capability)
    figures = figures_of(card.model or card.name)
    tflops = card.tflops or (figures.tflops if figures else _guessed_tflops(card, factors))
    usual = min(_USUAL_LINK_BYTES_PER_S, figures.link_bytes_per_s) if figures else _USUAL_LINK_BYTES_PER_S // 2
    link = card.link_bytes_per_s or usual
    dense = factors.dense_layer_s if card.layer_overhead_s is None else card.layer_overhead_s
    return Device(
        name=name,
        card=card.name,
        usable_bytes=card.usable_bytes,
        read_bytes_per_s=card.bandwidth_bytes_per_s * factors.efficiency * correction.decode,
        flops_per_s=tflops * TERA * factors.prompt_share * correction.prefill,
        dense_layer_s=dense,
        expert_layer_s=dense + factors.expert_layer_s - factors.dense_layer_s,
        link_bytes_per_s=_LINK_EFFICIENCY * link * correction.link,
    )


def _written(measured: MeasuredSpeed) -> Correction:
    """Correct by what models.yaml says, where nobody says otherwise."""
    return Correction(measured.decode, measured.prefill)


def _guessed_tflops(card: Card, factors: Generation) -> float:
    return card.bandwidth_bytes_per_s / GIGA * factors.tflops_per_gb_per_s


def cpu_device(
    memory: HostMemory | None = None, correction: Correction | None = None, *, takes_layers: bool = True
) -> Device:
    """Describe the processor with its memory."""
    memory = memory or HostMemory()
    correction = correction or _written(memory.measured)
    return Device(
        name=CPU,
        card=None,
        usable_bytes=memory.usable_bytes,
        read_bytes_per_s=memory.bandwidth_bytes_per_s * _CPU_EFFICIENCY * correction.decode,
        flops_per_s=_CPU_FLOPS * correction.prefill,
        dense_layer_s=0.0,
        expert_layer_s=0.0,
        link_bytes_per_s=float(memory.bandwidth_bytes_per_s),
        expert_share=1.0,
        can_pipeline=False,
        takes_layers=takes_layers,
    )


def rpc_device(name: str, device: Device, *, network_bytes_per_s: float, hop_s: float = RPC_HOP_S) -> Device:
    """Describe a card of another host: as fast as it is there, and slow to hand work to.

    llama.cpp's RPC backend has no events, so that no pipeline is made (ggml-rpc.cpp,
    ggml_backend_rpc_device_get_props), and does no work for the processor (its offload_op is none).
    """
    link = min(device.link_bytes_per_s, network_bytes_per_s)
    return replace(device, name=name, link_bytes_per_s=link, hop_s=hop_s, can_pipeline=False, is_remote=True)


def devices_of(cards: Iterable[Card], cpu: Device, corrections: Corrections = NO_CORRECTIONS) -> tuple[Device, ...]:
    """Describe a profile's cards under the names that llama.cpp gives them, and the processor last."""
    cards = tuple(cards)
    names = device_names(cards)
    return (*(_device(names[card.name], card, corrections.get(card.name)) for card in cards), cpu)


def _device(name: str, card: Card, correction: Correction | None) -> Device:
    device = card_device(name, card, correction)
    if card.remote is None:
        return device
    return rpc_device(name, device, network_bytes_per_s=card.remote.bandwidth_bytes_per_s)
