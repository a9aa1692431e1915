"""The external gguf-tensor-overrider, as it answered when `kloros-infra lock` asked it.

Its answer says where each tensor shall be, with no layer on a card (`-ngl 0`), so that all keys and values stay in host
memory: 2 to 17 times slower than need be. Here the answer is read as tensors → devices, layers are put where their
attention is, and what leaves them is written in a few patterns. The tool knows neither compute buffers nor what a
model's heads really are: what does not fit by our own account is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.overrider_record import OverriderRecord, record_from_json
from kloros_infra.ir.placement import CPU, Placement, Prediction
from kloros_infra.placement import overrider_problems as problems
from kloros_infra.placement.costs import costs_between
from kloros_infra.placement.engines.interface import OVERRIDER, Engine, Outcome, Request
from kloros_infra.placement.engines.manual import busiest_load
from kloros_infra.placement.memory import TensorPlaces
from kloros_infra.placement.overrider_layers import Arrangement, arrange
from kloros_infra.placement.overrider_output import answer_problems, parse_output
from kloros_infra.placement.overrider_question import question_of
from kloros_infra.placement.part_speed import speed_of_arrangement
from kloros_infra.placement.plan_loads import loads_at
from kloros_infra.placement.problems import does_not_fit


def recorded_answer(instance: Instance, records: Mapping[str, str]) -> OverriderRecord | Diagnostic:
    """Find the answer to what would be asked today; `records` are texts by the name of an instance."""
    text = records.get(str(instance.id))
    if text is None:
        return problems.not_asked(instance)
    try:
        record = record_from_json(text)
    except ValueError as error:
        return problems.not_readable(instance, str(error))
    question = question_of(instance)
    return record if record.question == question else problems.out_of_date(instance, record.question, question)


def _place(request: Request) -> Outcome:
    record = recorded_answer(request.instance, request.overrider_records)
    if isinstance(record, Diagnostic):
        return None, (record,)
    return follow(request, record.output)


def follow(request: Request, output: str) -> Outcome:
    """Place an instance as the tool printed."""
    instance = request.instance
    try:
        answer = parse_output(output)
    except ValueError as error:
        return None, (problems.not_understood(instance, str(error)),)
    found = tuple(answer_problems(instance, answer))
    if found:
        return None, found
    header = instance.model.weights.header
    devices = _renamed(answer, request)
    arrangement = arrange(header, devices, [card.name for card in request.cards])
    placement = _placement(request, arrangement)
    if not placement.fits:
        return None, (does_not_fit(instance, busiest_load(placement)),)
    moved = arrangement.moved_layers
    return placement, (problems.layers_moved(instance, moved),) if moved else ()


def _renamed(answer: Mapping[str, str], request: Request) -> Mapping[str, str]:
    """Give cards the names that they have here: the tool knows them by their place among those it was shown."""
    names = {f"CUDA{index}": card.name for index, card in enumerate(request.cards)}
    return {tensor: names.get(device, CPU) for tensor, device in answer.items()}


def _placement(request: Request, arrangement: Arrangement) -> Placement:
    task = request.task
    work = task.work
    costs = costs_between(task.header, work, task.devices)
    speed = speed_of_arrangement(costs, arrangement, {one.name: one for one in task.devices}, task.preference)
    places = TensorPlaces(arrangement.layer_devices, arrangement.exceptions, arrangement.cards)
    return Placement(
        engine=OVERRIDER,
        layer_devices=arrangement.layer_devices,
        exceptions=arrangement.exceptions,
        loads=loads_at(task, work, places),
        context_tokens=work.context_tokens,
        parallel=work.parallel,
        micro_batch=work.micro_batch,
        cache_type_k=work.cache_type_k,
        cache_type_v=work.cache_type_v,
        predicted=Prediction(
            prefill_tokens_per_s=speed.prefill_tokens_per_s,
            decode_tokens_per_s=speed.decode_tokens_per_s,
            depth_tokens=costs.depth_tokens,
            splits=speed.splits,
            bottleneck=speed.bottleneck,
        ),
    )


ENGINE = Engine(OVERRIDER, version=1, place=_place)
