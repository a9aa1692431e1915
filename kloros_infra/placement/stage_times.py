"""Seconds that one token costs in one layer on one device, and between devices: what the speed of a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from kloros_infra.placement.costs import LayerCosts, ModelCosts
from kloros_infra.placement.devices import Device

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class StageTimes:
    """Times of a model where prompts are worked off in micro-batches; `first` gets the processor's large products.

    The first device of llama-server's list multiplies long prompts by weights that are in host memory, which are
    copied to it for each micro-batch (ggml-backend.cpp, ggml_backend_sched_backend_id_from_cur; 32 tokens and more).
    Where that is another host's, the processor does so itself.
    """

    costs: ModelCosts
    first: Device

    @cached_property
    def micro_batches(self) -> int:
        """Count the micro-batches of a prompt that fills the context to its depth."""
        return max(1, ceil(self.costs.depth_tokens / self.costs.work.micro_batch))

    @cached_property
    def batch_tokens(self) -> float:
        return self.costs.depth_tokens / self.micro_batches

    def decode_core_s(self, layer: LayerCosts, device: Device) -> float:
        # The head, which computes nothing for a prompt, is one step and no layer.
        step_s = device.dense_layer_s if layer.core_flops else self._logits_s(device)
        turns_s = self.taken_over_s(self.core_turns(layer, device))
        return layer.read_bytes / device.read_bytes_per_s + step_s + turns_s + self._entry_s(layer, device, 1)

    def decode_experts_s(self, layer: LayerCosts, device: Device) -> float:
        if not layer.has_experts:
            return 0.0
        steps_s = device.expert_layer_s - device.dense_layer_s
        turns_s = self.taken_over_s(self.expert_turns(layer, device))
        return layer.expert_read_bytes / device.read_bytes_per_s + steps_s + turns_s

    @cached_property
    def taker(self) -> str | None:
        """Name the card that gets steps of the processor's layers, if any."""
        return None if self.first.is_cpu or self.first.is_remote else self.first.name

    def core_turns(self, layer: LayerCosts, device: Device) -> int:
        """Count the turns that the first card takes at a token in a layer of the processor."""
        return layer.core_turns if self._takes_from(device) else 0

    def expert_turns(self, layer: LayerCosts, device: Device) -> int:
        return layer.expert_turns if self._takes_from(device) else 0

    def _takes_from(self, device: Device) -> bool:
        return device.is_cpu and self.taker is not None

    def taken_over_s(self, turns: int) -> float:
        """Say what these turns cost; what is handed on is small."""
        return turns * self.first.hop_s

    def prefill_core_s(self, layer: LayerCosts, device: Device) -> float:
        """Attention is computed where keys and values are, the rest on the first card if they are the processor's."""
        attention_s = layer.attention_flops / device.flops_per_s
        entry_s = self._entry_s(layer, device, self.batch_tokens)
        return attention_s + self._product_s(layer.core_flops, layer.core_bytes, device) + entry_s

    def _entry_s(self, layer: LayerCosts, device: Device, tokens: float) -> float:
        """Say what it takes until a token's embedding is on another host; within a machine it hardly counts."""
        if not (layer.is_entry and device.is_remote):
            return 0.0
        return device.hop_s / tokens + self.costs.activation_bytes / device.link_bytes_per_s

    def prefill_experts_s(self, layer: LayerCosts, device: Device) -> float:
        by = self._multiplier(device)
        return self._product_s(layer.expert_flops / by.expert_share, layer.expert_bytes, device)

    def _product_s(self, flops: float, weights_bytes: int, device: Device) -> float:
        by = self._multiplier(device)
        copied_s = 0.0
        if by is not device and flops:
            copied_s = weights_bytes / by.link_bytes_per_s / self.batch_tokens
        return flops / by.flops_per_s + copied_s

    def _multiplier(self, device: Device) -> Device:
        return self.first if device.is_cpu and not self.first.is_remote else device

    def _logits_s(self, device: Device) -> float:
        """Say what it takes to send home how likely each word is; within a machine that is nothing."""
        return _FLOAT_BYTES * self.costs.header.vocabulary_size / device.link_bytes_per_s if device.is_remote else 0.0

    def decode_hop_s(self, one: Device, other: Device) -> float:
        return _wait_s(one, other) + self._copy_s(one, other)

    def prefill_hop_s(self, one: Device, other: Device) -> float:
        return _wait_s(one, other) / self.batch_tokens + self._copy_s(one, other)

    def _copy_s(self, one: Device, other: Device) -> float:
        return self.costs.activation_bytes / min(one.link_bytes_per_s, other.link_bytes_per_s)

    def pipelined_s(self, total_s: float, slowest_s: float) -> float:
        """Say what a token of a prompt costs where each card begins the next micro-batch as soon as it is free."""
        return (total_s + (self.micro_batches - 1) * slowest_s) / self.micro_batches


def _wait_s(one: Device, other: Device) -> float:
    return max(one.hop_s, other.hop_s)


def can_pipeline(names: tuple[str, ...], devices: Mapping[str, Device]) -> bool:
    """Say whether cards work on a prompt side by side: several, all of them with events, and nothing on the CPU.

    llama.cpp, src/llama-context.cpp, pipeline_parallel; it is off wherever a tensor is overridden.
    """
    return len(names) > 1 and all(devices[name].can_pipeline for name in names)
