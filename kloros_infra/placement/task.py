"""What an engine is asked for: a model with its workload, the devices it may use, and what is wanted of the plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache

from kloros_infra.ir.catalog import Instance, KvType, Preference
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.placement.architectures import ENCODERS
from kloros_infra.placement.block_sizes import BLOCKS
from kloros_infra.placement.devices import Device
from kloros_infra.placement.workload import Workload, workload

MICRO_BATCHES = (512, 1024, 2048, 4096)
"""Larger ones take more memory, and spare copies of the weights that are in host memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that a placement depends on; the CPU is the last device.

    Where a text must be one micro-batch, `micro_batches` is that one. `cache_types` are those for keys and for values,
    most wanted first.
    """

    header: GgufHeader
    work: Workload
    devices: tuple[Device, ...]
    preference: Preference = field(default_factory=Preference)
    micro_batches: tuple[int, ...] = MICRO_BATCHES
    cache_types: tuple[tuple[KvType, KvType], ...] = ((KvType.F16, KvType.F16),)
    min_context_tokens: int | None = None
    draft: GgufHeader | None = None
    projector: GgufHeader | None = None

    @property
    def cards(self) -> tuple[Device, ...]:
        return self.devices[:-1]

    def device(self, name: str) -> Device:
        return next(device for device in self.devices if device.name == name)

    def with_context(self, context_tokens: int) -> Task:
        """Ask for another context."""
        return replace(self, work=replace(self.work, context_tokens=context_tokens))


def task_of(instance: Instance, devices: tuple[Device, ...]) -> Task:
    """Say what an instance asks for."""
    work, model, serving = workload(instance), instance.model, instance.serving
    header = model.weights.header
    is_whole = work.micro_batch != MICRO_BATCHES[0] or header.architecture in ENCODERS
    own = (serving.cache_type_k, serving.cache_type_v)
    others = ((one, one) for one in serving.cache_type_choices if _divides_heads(header, one))
    return Task(
        header=header,
        work=work,
        devices=devices,
        preference=preference_of(instance),
        micro_batches=(work.micro_batch,) if is_whole else MICRO_BATCHES,
        cache_types=tuple(dict.fromkeys((own, *others))),
        min_context_tokens=serving.min_context_tokens,
        draft=model.draft.weights.header if model.draft else None,
        projector=model.projector.header if model.projector else None,
    )


def preference_of(instance: Instance) -> Preference:
    """Say what counts for an instance: one that is asked for embeddings or ranks only reads."""
    return instance.serving.preference if instance.model.kind.can_chat else Preference(prefill=1.0, decode=0.0)


def _divides_heads(header: GgufHeader, type_: KvType) -> bool:
    values, _ = BLOCKS[type_.name]
    return header.key_length % values == 0 and header.value_length % values == 0


def placement_key(task: Task, *, engine: str, engine_version: int, build: str = "") -> str:
    """Name a task by its content, for a store of results; `build` is that of llama.cpp, where it is known."""
    headers = [_header_digest(one) if one else "" for one in (task.header, task.draft, task.projector)]
    others = [getattr(task, one.name) for one in fields(task) if one.name not in _HEADERS]
    text = "\n".join([engine, str(engine_version), build, *headers, *map(_written, others)])
    return hashlib.sha256(text.encode()).hexdigest()


_HEADERS = frozenset({"header", "draft", "projector"})


@lru_cache(maxsize=1024)
def _header_digest(header: GgufHeader) -> str:
    return hashlib.sha256(_written(header).encode()).hexdigest()


def _written(value: object) -> str:
    """Write a value so that equal ones, and only these, have the same text, also in a later version's order."""
    match value:
        case tuple():
            return f"({','.join(map(_written, value))})"
        case _ if is_dataclass(value):
            return f"{{{','.join(f'{f.name}:{_written(getattr(value, f.name))}' for f in fields(value))}}}"
        case _:
            return repr(value)
