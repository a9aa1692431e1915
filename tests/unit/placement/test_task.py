"""What an instance asks for, and the name that a result of it is kept under."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import KvType, ModelKind, Preference
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.task import MICRO_BATCHES, Task, placement_key, task_of
from tests.exhaustive_placement import an_expert_header
from tests.factories import a_7b_header, a_draft, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights

DEVICES = devices_of(kloros_cards(), cpu_device())


def a_task() -> Task:
    return task_of(an_instance(a_model(weights=some_weights(header=a_7b_header()))), DEVICES)


def key(task: Task, engine: str = "solver", version: int = 1, build: str = "b11434") -> str:
    return placement_key(task, engine=engine, engine_version=version, build=build)


def test_a_model_for_chat_may_have_any_micro_batch() -> None:
    task = a_task()

    assert task.micro_batches == MICRO_BATCHES
    assert task.preference == Preference(prefill=4.0, decode=1.0)
    assert task.cache_types == ((KvType.F16, KvType.F16),)
    assert (task.cards, task.device("CPU")) == (DEVICES[:3], DEVICES[3])


def test_a_model_that_embeds_reads_whole_texts_and_generates_nothing() -> None:
    task = task_of(an_instance(a_model(kind=ModelKind.EMBEDDING, context_tokens=4096)), DEVICES)

    assert task.micro_batches == (4096,)
    assert task.preference == Preference(prefill=1.0, decode=0.0)


def test_cache_types_are_those_that_the_heads_allow() -> None:
    serving = replace(a_serving(), cache_type_choices=(KvType.Q8_0, KvType.F16, KvType.Q4_0))
    odd = replace(a_7b_header(), key_length=80, value_length=80)

    def types(header_of_64: bool) -> tuple[tuple[KvType, KvType], ...]:
        header = a_7b_header() if header_of_64 else odd
        return task_of(an_instance(a_model(weights=some_weights(header=header)), serving=serving), DEVICES).cache_types

    f16, q8_0, q4_0 = ((one, one) for one in (KvType.F16, KvType.Q8_0, KvType.Q4_0))
    assert types(header_of_64=True) == (f16, q8_0, q4_0)
    assert types(header_of_64=False) == (f16,)


def test_the_same_task_has_the_same_name() -> None:
    assert key(a_task()) == key(a_task())
    assert len(key(a_task())) == 64


@pytest.mark.parametrize(
    "changed",
    [
        lambda task: replace(task, header=an_expert_header(2)),
        lambda task: replace(task, draft=an_expert_header(2)),
        lambda task: replace(task, projector=an_expert_header(2)),
        lambda task: task.with_context(4096),
        lambda task: replace(task, work=replace(task.work, parallel=2)),
        lambda task: replace(task, work=replace(task.work, cache_type_k=KvType.Q8_0)),
        lambda task: replace(task, micro_batches=(512,)),
        lambda task: replace(task, preference=Preference(prefill=5.0)),
        lambda task: replace(task, min_context_tokens=1024),
        lambda task: replace(task, devices=task.devices[1:]),
        lambda task: replace(task, devices=(task.devices[0].without(1), *task.devices[1:])),
        lambda task: replace(task, devices=(replace(task.devices[0], hop_s=1.0), *task.devices[1:])),
    ],
)
def test_whatever_a_placement_depends_on_is_in_its_name(changed) -> None:  # type: ignore[no-untyped-def]
    assert key(changed(a_task())) != key(a_task())


def test_engine_version_and_build_are_in_the_name() -> None:
    names = {key(a_task()), key(a_task(), engine="fit"), key(a_task(), version=2), key(a_task(), build="b1")}

    assert len(names) == 4


def test_a_draft_model_and_its_place_are_asked_for() -> None:
    model = a_model(draft=a_draft())

    assert task_of(an_instance(model, a_profile("max", *kloros_cards())), DEVICES).draft == a_draft().weights.header
