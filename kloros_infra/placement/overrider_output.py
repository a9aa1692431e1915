"""What gguf-tensor-overrider prints → the device of each tensor.

It prints one line for a shell: `-ngl 0 -ot "token_embd.weight=CPU" -ot "blk.0.attn_k.weight=CUDA0" …`. What stands left
of = is a pattern to llama.cpp; the tool writes whole names there, and nothing else is taken.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU
from kloros_infra.placement import overrider_problems as problems

_LAYERS_OPTIONS = frozenset({"-ngl", "--gpu-layers", "--n-gpu-layers"})
_TENSOR_OPTIONS = frozenset({"-ot", "--override-tensor"})
# A name holds none of the signs that would make a pattern of it, save the dot.
_ASSIGNMENT = re.compile(r"([A-Za-z0-9_.-]+)=([A-Za-z0-9_.:\[\]-]+)")


def parse_output(text: str) -> Mapping[str, str]:
    """Read the tool's line; raise ValueError with what is not understood."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"its quotes do not close ({error})") from error
    found: dict[str, str] = {}
    for option, value in _pairs(words):
        for part in value.split(",") if option in _TENSOR_OPTIONS else ():
            name, device = _assignment(part)
            if found.setdefault(name, device) != device:
                raise ValueError(f"it puts {name} on {found[name]} and on {device}")
    if not found:
        raise ValueError("it puts no tensor anywhere")
    return found


def _pairs(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    rest = iter(words)
    for word in rest:
        if word not in _LAYERS_OPTIONS | _TENSOR_OPTIONS:
            raise ValueError(f"{word[:80]!r} is none of the options -ngl and -ot")
        value = next(rest, None)
        if value is None:
            raise ValueError(f"it ends behind {word}")
        if word in _LAYERS_OPTIONS and not value.isdecimal():
            raise ValueError(f"{word} {value[:80]!r} is no number of layers")
        yield word, value


def _assignment(text: str) -> tuple[str, str]:
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no tensor's name, = and a device")
    return found[1], found[2]


def tensor_names(header: GgufHeader) -> Iterator[str]:
    """Write out the tensor table."""
    for group in header.tensors:
        if group.layers is None:
            yield group.name
        else:
            yield from (group.name.replace("*", str(layer), 1) for layer in group.layers)


def answer_problems(instance: Instance, answer: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Hold an answer against the model and the profile: it names each tensor once, and devices that are there."""
    names = frozenset(tensor_names(instance.model.weights.header))
    devices = (*(f"CUDA{index}" for index in range(len(instance.profile.cards))), CPU)
    yield from _unknown(instance, "tensor", answer.keys() - names, names)
    yield from _unknown(instance, "device", set(answer.values()) - set(devices), devices)
    missing = names - answer.keys()
    if missing:
        yield problems.tensors_missing(instance, sorted(missing))


def _unknown(instance: Instance, what: str, found: Collection[str], known: Collection[str]) -> Iterator[Diagnostic]:
    if found:
        yield problems.unknown_names(instance, what, sorted(found), sorted(known))
