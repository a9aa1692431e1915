"""Changed keys of a unit, told as memory and speed."""

from __future__ import annotations

import pytest

from kloros_infra.ir.plan import Action, Change, KeyChange, Plan
from kloros_infra.planner.explain import explain
from kloros_infra.planner.placement_changes import placement_change

VRAM, PREDICTED = "Unit.X-Kloros-Vram", "Unit.X-Kloros-Predicted"


def vram(before: str | None, after: str | None) -> KeyChange:
    return KeyChange(VRAM, before, after)


def predicted(before: str | None, after: str | None) -> KeyChange:
    return KeyChange(PREDICTED, before, after)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            (
                vram("rtx3060:4096/11776", "gtx1080ti:512/10752 rtx3060:2867/11776"),
                predicted("decode:70 prefill:1500 depth:8192", "decode:66.1 prefill:1500 depth:8192"),
            ),
            "+0.5 GiB on gtx1080ti, -1.2 GiB on rtx3060, decode 70 -> 66.1 tok/s",
        ),
        # A card that the model leaves.
        ((vram("a:2048/4096 b:1024/4096", "a:2048/4096"),), "-1.0 GiB on b"),
        # Less than is shown.
        ((vram("a:2048/4096", "a:2060/4096"),), ""),
        ((predicted("decode:70 prefill:1500", "decode:70 prefill:900"),), "prefill 1500 -> 900 tok/s"),
        # Of another depth.
        (
            (predicted("decode:70 prefill:900 depth:4096", "decode:50 prefill:900 depth:65536"),),
            "decode 70 -> 50 tok/s (at 4096 -> 65536 tokens of context)",
        ),
        ((predicted("decode:70 prefill:900", "decode:50 prefill:900 depth:65536"),), "decode 70 -> 50 tok/s"),
        # By another hand or version.
        ((predicted("fast", "decode:70 prefill:900"),), ""),
        ((predicted("decode:70", "decode:fast prefill:900"),), ""),
        # New, or going.
        ((vram(None, "a:2048/4096"), predicted("decode:70", None)), ""),
        ((KeyChange("LLAMA_ARG_PORT", "8601", "8602"),), ""),
        ((), ""),
    ],
)
def test_a_change_is_told_as_memory_and_speed(keys: tuple[KeyChange, ...], expected: str) -> None:
    assert placement_change(keys) == expected


def test_a_plan_tells_it_with_its_instance() -> None:
    key = predicted("decode:70 prefill:9", "decode:66 prefill:9")
    lines = explain(
        Plan((Change("instance.code-max", Action.UPDATE, "it differs", (key,)),), ()), (), width=80, color=False
    )
    assert "  # (placement: decode 70 -> 66 tok/s)" in lines
