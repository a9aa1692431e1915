"""One instance by every engine."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.catalog import Instance, PlacementMode
from kloros_infra.ir.overrider_record import OverriderRecord, record_to_json
from kloros_infra.placement.alternatives import Alternative, alternatives, request_beside
from kloros_infra.placement.overrider_question import question_of
from kloros_infra.placement.place import Machine, place
from kloros_infra.placement.published import derive_header
from kloros_infra.placement.task import preference_of
from tests.factories import GIB, a_card, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights
from tests.overrider_cases import instance_of, output_of


def an_8b(*, percentages: tuple[float, ...] | None = None, layers: tuple[int, ...] | None = None) -> Instance:
    header = derive_header("llama-3.1-8b", "Q4_K_M")
    assert header is not None
    model = a_model(weights=some_weights(header=header), context_tokens=8192)
    is_manual = percentages is not None or layers is not None
    serving = a_serving(context_tokens=8192, placement=PlacementMode.MANUAL if is_manual else PlacementMode.AUTO)
    return an_instance(
        model, a_profile("max", *kloros_cards()), serving=serving, gpu_percentages=percentages, layers=layers
    )


def placed(instance: Instance, machine: Machine | None = None) -> dict[str, Alternative]:
    return {one.engine: one for one in alternatives(request_beside(instance, machine or Machine(), ()))}


def weighed_s(instance: Instance, one: Alternative) -> float:
    assert one.placement is not None
    assert one.placement.predicted is not None
    predicted = one.placement.predicted
    return preference_of(instance).seconds(1 / predicted.prefill_tokens_per_s, 1 / predicted.decode_tokens_per_s)


def test_the_solver_is_never_behind() -> None:
    instance = an_8b(percentages=(50, 25, 25))
    found = placed(instance)
    assert list(found) == ["solver", "manual", "fit", "default"]
    assert all(one.fits for one in found.values())
    best = weighed_s(instance, found["solver"])
    assert all(best <= weighed_s(instance, one) for one in found.values())
    assert found["manual"].placement == place(instance)[0]


def test_layers_that_are_written_count_as_well() -> None:
    found = placed(an_8b(layers=(33, 1, 1)))
    assert found["manual"].placement is None
    assert [problem.code for problem in found["manual"].problems] == ["KI404"]
    assert not found["manual"].fits


def test_the_overrider_is_there_where_its_answer_is() -> None:
    instance = instance_of("qwen25-coder-7b-q4_0")
    record = OverriderRecord(question_of(instance), "1.0.0", output_of("qwen25-coder-7b-q4_0"))
    machine = Machine(overrider_records={str(instance.id): record_to_json(record)})
    assert list(placed(instance, machine)) == ["solver", "overrider", "fit", "default"]
    assert list(placed(instance)) == ["solver", "fit", "default"]


def test_what_others_take_is_left_to_them() -> None:
    instance = replace(an_8b(), profile=a_profile("max", a_card(vram_bytes=12 * GIB)))
    other, _ = place(instance)
    assert other is not None
    assert placed(instance)["solver"].fits
    beside = alternatives(request_beside(instance, Machine(), (other, other)))
    assert [one.engine for one in beside if one.fits] == []


def test_without_cards_there_is_one_way() -> None:
    instance = replace(an_8b(), profile=a_profile())
    (only,) = alternatives(request_beside(instance, Machine(), ()))
    assert only.engine == "cpu"
    assert only.fits
