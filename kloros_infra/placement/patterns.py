"""Exceptions as llama-server reads them: few anchored patterns, without backslash and comma.

A value of --override-tensor is split at commas before its patterns are compiled (llama.cpp, common/arg.cpp), and
systemd takes a level of backslashes away; `[.]` means the same as an escaped dot.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.speed import Assignment

_EXPERTS = "ffn_[a-z_]+_exps[.]"


def expert_exceptions(assignment: Assignment) -> tuple[TensorException, ...]:
    """Write down which layers' experts are not with their layer; cards in their order, the CPU last."""
    away: dict[str, list[int]] = {name: [] for name in (*assignment.cards, CPU)}
    for layer, device in enumerate(assignment.expert_devices):
        if device != assignment.layer_devices[layer]:
            away[device].append(layer)
    return tuple(
        TensorException(f"^blk[.]{_alternatives(numbers_pattern(layers))}[.]{_EXPERTS}", device)
        for device, layers in away.items()
        if layers
    )


def numbers_pattern(numbers: Iterable[int]) -> tuple[str, ...]:
    """Write numbers as alternatives, those that differ in their last digit as one: 8, 10 to 13 → 8, 1[0-3]."""
    found = []
    for tens, group in groupby(sorted(set(numbers)), lambda number: number // 10):
        digits = [number % 10 for number in group]
        found.append(f"{tens or ''}{_digits(digits)}")
    return tuple(found)


def _digits(digits: list[int]) -> str:
    if len(digits) == 1:
        return str(digits[0])
    runs = []
    for _, group in groupby(enumerate(digits), lambda numbered: numbered[1] - numbered[0]):
        run = [digit for _, digit in group]
        runs.append(f"{run[0]}-{run[-1]}" if len(run) > 2 else "".join(map(str, run)))
    return f"[{''.join(runs)}]"


def _alternatives(patterns: tuple[str, ...]) -> str:
    return patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})"
