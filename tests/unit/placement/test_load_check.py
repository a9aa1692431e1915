"""What a server loaded is held against its placement: real logs of tests/cases/load_report, real headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.header_json import header_from_json
from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.catalog import Card, Instance, PlacementMode
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.load_report import Buffer, BufferKind, LoadedModel, LoadReport, SeenDevice
from kloros_infra.ir.placement import CPU, Placement, TensorException
from kloros_infra.placement.load_check import CUDA_CONTEXT_BYTES, ESTIMATED, KNOWN, Tolerance, compare, compare_cards
from kloros_infra.placement.load_report import MIB, parse_load_report
from kloros_infra.placement.place import place
from tests.factories import a_card, a_draft, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases" / "load_report"
HEADERS = ROOT / "examples" / "laptop" / "models.lock"
TWO = kloros_cards()[:2]


def header(model: str) -> GgufHeader:
    (file,) = HEADERS.glob(f"{model}*.json")
    return header_from_json(file.read_text("utf-8"))


def report(case: str) -> LoadReport:
    return parse_load_report((CASES / case / "llama-server.log").read_text("utf-8").splitlines())


def placed(instance: Instance) -> Placement:
    placement, problems = place(instance)
    assert placement is not None, problems
    return placement


def smollm2(*cards: Card, layers: tuple[int, ...] | None = None, has_draft: bool = False) -> Placement:
    """Place SmolLM2 as it was in the logs: 2048 tokens, one slot."""
    weights = some_weights(header=header("smollm2"))
    model = a_model(weights=weights, draft=a_draft(weights=weights) if has_draft else None)
    serving = a_serving(placement=PlacementMode.AUTO if layers is None else PlacementMode.MANUAL)
    return placed(an_instance(model, a_profile("max", *cards), serving=serving, layers=layers))


def gemma3(*cards: Card, layers: tuple[int, ...] | None, mode: PlacementMode = PlacementMode.MANUAL) -> Placement:
    """Place Gemma 3 270M as it was in the logs: two slots of 2048 tokens."""
    model = a_model(weights=some_weights(header=header("gemma3")))
    serving = a_serving(placement=mode, parallel=2)
    return placed(an_instance(model, a_profile("max", *cards), serving=serving, layers=layers))


def on_rpc(placement: Placement) -> Placement:
    """Name the first card as a device of another machine."""
    names = {"CUDA0": "RPC0"}
    return replace(
        placement,
        layer_devices=tuple(names.get(device, device) for device in placement.layer_devices),
        loads=tuple(replace(load, device=names.get(load.device, load.device)) for load in placement.loads),
    )


def codes(problems: Problems) -> list[str]:
    return [problem.code for problem in problems]


AS_PLACED = {
    "b10068-cpu": smollm2(),
    "b11434-cpu": smollm2(),
    "b10068-two-cards": smollm2(*TWO, layers=(20, 11)),
    "b10434-two-cards": smollm2(*TWO, layers=(20, 11)),
    "b10068-partly-on-a-card": smollm2(a_card(), layers=(20,)),
    "b10068-rpc": on_rpc(smollm2(a_card(), layers=(20,))),
    "b10068-flash-attention-auto": smollm2(a_card(), layers=(31,)),
    "b10068-draft-model": smollm2(*TWO, layers=(20, 11), has_draft=True),
    "b10068-sliding-window": gemma3(*TWO, layers=(10, 9)),
    "b10068-not-mapped": gemma3(a_card(), layers=(9,)),
    "b10068-fit": gemma3(*TWO, layers=None, mode=PlacementMode.FIT),
}


@pytest.mark.parametrize("case", sorted(AS_PLACED))
def test_a_server_that_is_as_placed_has_no_problem(case: str) -> None:
    assert compare(AS_PLACED[case], report(case)) == ()


@pytest.mark.parametrize(
    ("case", "placement", "expected"),
    [
        ("b10068-default-verbosity", smollm2(), ["KI570"]),
        ("b10068-no-gpu-found", smollm2(a_card(), layers=(31,)), ["KI571"]),
        ("b10068-cpu", smollm2(a_card(), layers=(20,)), ["KI571"]),
        ("b10068-cpu", gemma3(*TWO, layers=None, mode=PlacementMode.FIT), ["KI571"]),
        (
            "b10068-overrides-without-layers",
            smollm2(a_card(), layers=(31,)),
            ["KI573", "KI572", "KI573", "KI574", "KI575"],
        ),
        ("b10068-kv-in-host-memory", smollm2(a_card(), layers=(31,)), ["KI573", "KI573", "KI575"]),
        ("b10068-flash-attention-off", smollm2(a_card(), layers=(31,)), ["KI574"]),
        # All on the first card, half of it placed on the second.
        ("b10068-flash-attention-auto", smollm2(*TWO, layers=(20, 11)), ["KI572", "KI573", "KI572", "KI573"]),
        # Two cards, and one is not of the placement.
        ("b10068-two-cards", smollm2(TWO[0], layers=(31,)), ["KI572", "KI573", "KI572", "KI573"]),
        ("b10068-two-cards", smollm2(), ["KI573", *["KI572", "KI573"] * 2]),
        # One layer more on one card and one less on the other.
        ("b10068-two-cards", smollm2(*TWO, layers=(21, 10)), ["KI572", "KI573", "KI572", "KI573"]),
    ],
)
def test_what_is_not_as_placed_is_named(case: str, placement: Placement, expected: list[str]) -> None:
    assert codes(compare(placement, report(case))) == expected


def test_the_silent_fallback_is_seen_behind_the_words_that_claim_otherwise() -> None:
    (problem,) = compare(smollm2(a_card(), layers=(31,)), report("b10068-no-gpu-found"))
    assert problem.is_error
    assert "CUDA0 (rtx3060)" in problem.detail
    assert "it saw no GPU" in problem.detail
    assert "“offloaded 31/31 layers to GPU”" in problem.detail


def test_the_fallback_quotes_what_the_driver_said_and_what_was_seen() -> None:
    log = ["warning: no usable GPU found, --gpu-layers option will be ignored", "x:  CPU model buffer size = 92.10 MiB"]
    (problem,) = compare(smollm2(a_card()), parse_load_report(log))
    assert problem.detail.endswith(
        "it saw no GPU.\n    | warning: no usable GPU found, --gpu-layers option will be ignored"
    )
    seen = replace(parse_load_report(log), seen=(SeenDevice("CUDA0"),), notes=())
    assert compare(smollm2(a_card()), seen)[0].detail.endswith("it saw CUDA0.")


def test_both_figures_stand_in_the_detail() -> None:
    found = compare(smollm2(*TWO, layers=(31, 0)), report("b10068-two-cards"))
    weights = [problem.detail for problem in found if problem.code == "KI572"]
    assert weights == [
        "CUDA0 (rtx5080) holds 43 MiB of weights (31 of 31 layers were offloaded), and 93 MiB (30 layers) are placed.",
        "CUDA1 holds 50 MiB of weights (31 of 31 layers were offloaded), and nothing is placed there.",
    ]
    one_layer = compare(smollm2(*TWO, layers=(1, 30)), report("b10068-two-cards"))
    assert "3 MiB (1 layer) are placed" in one_layer[0].detail
    assert "holds 30 MiB of keys and values, and 2 MiB belong to" in one_layer[1].detail


def loaded(*buffers: Buffer, slot_context_tokens: int | None = None) -> LoadReport:
    return LoadReport(models=(LoadedModel(buffers, slot_context_tokens=slot_context_tokens),))


def as_foreseen(placement: Placement, *, more_bytes: int = 0) -> LoadReport:
    """Report what a placement foresees, and more on its first device."""
    buffers = [
        Buffer(load.device, kind, size_bytes)
        for load in placement.loads
        for kind, size_bytes in (
            (BufferKind.WEIGHTS, load.weights_bytes),
            (BufferKind.STATE, load.kv_bytes),
            (BufferKind.COMPUTE, load.compute_bytes + load.extra_bytes),
        )
    ]
    return loaded(*buffers, Buffer(placement.loads[0].device, BufferKind.OTHER, more_bytes))


def test_more_memory_than_foreseen_is_an_error_beyond_the_tolerance() -> None:
    placement = smollm2(a_card())
    tolerance = Tolerance(share=0.5, margin_bytes=MIB)
    room = placement.loads[0].total_bytes // 2 + MIB
    assert compare(placement, as_foreseen(placement, more_bytes=room), tolerance=tolerance) == ()
    (problem,) = compare(placement, as_foreseen(placement, more_bytes=room + 2), tolerance=tolerance)
    assert (problem.code, problem.severity) == ("KI576", Severity.ERROR)
    assert problem.detail == "CUDA0 (rtx3060) holds 229 MiB, and 152 MiB were foreseen."


def test_host_memory_and_what_fit_decides_are_not_measured() -> None:
    assert compare(smollm2(), as_foreseen(smollm2(), more_bytes=10**12)) == ()
    fit = gemma3(*TWO, layers=None, mode=PlacementMode.FIT)
    assert compare(fit, as_foreseen(fit, more_bytes=10**12)) == ()


def test_less_context_than_asked_for_is_an_error() -> None:
    placement = smollm2()
    state = Buffer(CPU, BufferKind.STATE, placement.loads[0].kv_bytes)
    (problem,) = compare(placement, loaded(state, slot_context_tokens=1024))
    assert (problem.code, problem.is_error) == ("KI579", True)
    assert problem.detail == "A request can have 1024 tokens, and 2048 are asked for."
    assert compare(placement, loaded(state, slot_context_tokens=4096)) == ()


def test_splits_of_a_placement_that_nobody_foresaw_are_those_of_its_runs() -> None:
    placement = smollm2(a_card(), layers=(31,))
    report = with_splits(placement, 400)

    (unforeseen,) = compare(replace(placement, predicted=None), report)
    (foreseen,) = compare(placement, report)
    assert (unforeseen.detail, unforeseen.is_error) == (foreseen.detail, False)
    assert foreseen.is_error


def with_splits(placement: Placement, splits: int) -> LoadReport:
    model = replace(as_foreseen(placement).models[0], graph_splits=splits)
    return replace(as_foreseen(placement), models=(model,))


def test_more_splits_than_foreseen_are_an_error_with_both_figures() -> None:
    placement = smollm2(a_card(), layers=(31,))
    assert placement.predicted is not None
    assert compare(placement, with_splits(placement, placement.predicted.splits + 3)) == ()
    (problem,) = compare(placement, with_splits(placement, placement.predicted.splits + 4))
    assert (problem.code, problem.severity) == ("KI575", Severity.ERROR)
    assert "changes devices 6 times, and the placement needs 2" in problem.detail


def test_more_splits_are_a_warning_where_layers_are_the_cpu_s() -> None:
    placement = smollm2(a_card(), layers=(20,))
    assert compare(placement, with_splits(placement, 5)) == ()
    (problem,) = compare(placement, with_splits(placement, 6))
    assert (problem.code, problem.severity) == ("KI575", Severity.WARNING)
    # A processor's library for matrices counts as a device of its own.
    assert compare(smollm2(), with_splits(smollm2(), 400)) == ()


def test_splits_are_not_compared_where_slots_give_the_first_card_all_of_the_cpu_s_products() -> None:
    many = replace(smollm2(a_card(), layers=(20,)), parallel=32)
    assert compare(many, with_splits(many, 400)) == ()
    experts = replace(smollm2(a_card()), parallel=32, exceptions=(TensorException("_exps[.]", CPU),))
    assert compare(experts, with_splits(experts, 400)) == ()

    elsewhere = replace(experts, exceptions=(TensorException("_exps[.]", "CUDA1"),))
    assert codes(compare(elsewhere, with_splits(elsewhere, 400))) == ["KI575"]


@given(st.integers(-(10**9), 10**9))
def test_a_layer_s_worth_of_weights_never_goes_unnoticed(difference_bytes: int) -> None:
    placement = smollm2(a_card())
    gpu = placement.loads[0]
    moved = replace(gpu, weights_bytes=max(0, gpu.weights_bytes + difference_bytes))
    found = compare(placement, as_foreseen(replace(placement, loads=(moved, *placement.loads[1:]))))
    is_noticed = "KI572" in codes(found)
    assert is_noticed is (abs(moved.weights_bytes - gpu.weights_bytes) > KNOWN.room_bytes(gpu.weights_bytes))


def test_cards_may_hold_cuda_s_own_beside_what_is_placed() -> None:
    placement = smollm2(*TWO, layers=(20, 11))
    first, second, _ = placement.loads
    least = first.weights_bytes + first.kv_bytes - ESTIMATED.room_bytes(first.weights_bytes + first.kv_bytes)
    most = first.total_bytes + CUDA_CONTEXT_BYTES + ESTIMATED.room_bytes(first.total_bytes)
    fine = {"CUDA1": second.total_bytes, "CUDA7": 1}
    for used in (max(0, least), first.total_bytes, most):
        assert compare_cards(placement, {"CUDA0": used, **fine}) == ()
    (problem,) = compare_cards(placement, {"CUDA0": most + 1, **fine})
    assert (problem.code, problem.is_error) == ("KI578", True)
    assert "CUDA0 (rtx5080)" in problem.detail


def test_a_card_that_holds_nothing_of_a_large_model_is_an_error() -> None:
    small = smollm2(a_card())
    large = replace(small, loads=(replace(small.loads[0], weights_bytes=4 * 2**30), small.loads[1]))
    assert codes(compare_cards(large, {"CUDA0": 0})) == ["KI578"]
    assert compare_cards(large, {}) == ()
