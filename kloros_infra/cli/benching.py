"""Measure a running instance, and write what that says of its devices into models.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.llama_bench import HttpBench
from kloros_infra.cli.editing import change_models_file, show_changes
from kloros_infra.cli.placement_text import speed_text
from kloros_infra.cli.placements import Placed, View, errors_about
from kloros_infra.cli.table import table
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.editing.edits import Address, Edit, SetValue
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.bench import NEW_TOKENS, Measurement
from kloros_infra.ir.catalog import MeasuredSpeed
from kloros_infra.placement.bench import (
    LEAST,
    MOST,
    bench_depths,
    foreseen,
    is_credible,
    is_too_deep,
    measured_devices,
    measured_speed,
    prior_devices,
    why_unmeasurable,
)


@dataclass(frozen=True, slots=True)
class Benched:
    """What was measured of an instance, and the factors of the devices that it is on."""

    placed: Placed
    measurements: tuple[Measurement, ...]
    speed: MeasuredSpeed
    devices: tuple[str | None, ...]


def bench(view: View, name: str, depths: Sequence[int] = ()) -> Benched:
    """Measure an instance that runs, with prompts of these lengths; raise a KlorosError where that is not possible."""
    placed = _called(view, name)
    reason = why_unmeasurable(placed.instance, placed.placement)
    if reason is not None:
        raise ProblemsError([_unmeasurable(placed, reason)])
    wanted = tuple(depths) or bench_depths(placed.instance)
    if deep := [depth for depth in wanted if is_too_deep(placed.instance, depth)]:
        raise ProblemsError([_too_deep(placed, max(deep))])
    vocabulary = placed.instance.model.weights.header.vocabulary_size
    server = HttpBench(f"http://127.0.0.1:{placed.instance.port}", vocabulary=vocabulary)
    measurements = tuple(server.measured(depth) for depth in wanted)
    devices = prior_devices(placed.instance, view.machine)
    speed = measured_speed(placed.instance, placed.placement, devices, measurements)
    return Benched(placed, measurements, speed, measured_devices(placed.placement))


def _called(view: View, name: str) -> Placed:
    known = {str(one.instance.id): one for one in view.placed}
    if name in known:
        return known[name]
    model, _, profile = name.rpartition("-")
    about = next((one.id for one in view.parsed.config.models if one.unit_name == model), None)
    if about is not None and (wrong := errors_about(view, about, profile)):
        raise ProblemsError(wrong)
    problem = Diagnostic(
        code="KI445",
        summary="Unknown instance",
        detail=f"No instance that has a place is called {name!r}.",
        hint=suggest(name, known),
    )
    raise ProblemsError([problem])


def _unmeasurable(placed: Placed, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI447",
        summary="Measuring it would tell nothing",
        detail=f"{placed.instance.id} says nothing of how fast its devices are: {reason}.",
        hint="Measure a chat model that the solver has placed on the same cards.",
    )


def _too_deep(placed: Placed, depth_tokens: int) -> Diagnostic:
    context_tokens = placed.instance.serving.context_tokens
    return Diagnostic(
        code="KI446",
        summary="Not measured",
        detail=f"A prompt of {depth_tokens} tokens and {NEW_TOKENS} generated ones are more than the {context_tokens} "
        f"tokens of context that a request of {placed.instance.id} has.",
        hint=f"Give --depth {context_tokens - NEW_TOKENS} or less.",
    )


def _not_credible(found: Benched) -> Diagnostic:
    return Diagnostic(
        code="KI449",
        summary="Measured speed is not credible",
        detail=f"{found.placed.instance.id} was measured to generate {found.speed.decode:g} times as fast as foreseen "
        f"and to read {found.speed.prefill:g} times as fast. Factors are from {LEAST:g} to {MOST:g}; where one is at "
        "a bound, the true one lies beyond. Nothing was written.",
        hint="See that the instance itself runs at its port, as models.yaml has it (`kloros-infra plan`), and that "
        "nobody else uses its cards.",
    )


def bench_lines(view: View, found: Benched) -> Iterator[str]:
    """Set what was measured beside what is foreseen of such devices, and say what models.yaml would say."""
    placed = found.placed
    devices = prior_devices(placed.instance, view.machine)
    rows = [("DEPTH", "PREFILL", "FORESEEN", "DECODE", "FORESEEN")]
    for one in found.measurements:
        speed = foreseen(placed.instance, placed.placement, devices, one.depth_tokens)
        figures = (one.prefill_tokens_per_s, speed.prefill_tokens_per_s, one.decode_tokens_per_s)
        shown = (*map(speed_text, figures), speed_text(speed.decode_tokens_per_s))
        rows.append((str(one.depth_tokens), shown[0], shown[1], shown[2], shown[3]))
    yield from table(rows)
    factors = f"{{decode: {found.speed.decode:g}, prefill: {found.speed.prefill:g}}}"
    for card in found.devices:
        yield f"{_written_at(view, card)}.measured: {factors}"
    if len(found.devices) > 1:
        yield "These devices were measured together: an instance on one of them tells more of it."


def _written_at(view: View, card: str | None) -> str:
    return f"hosts.{view.catalog.host}" if card is None else f"gpus.{card}"


def write_factors(file: Path, view: View, found: Benched) -> None:
    """Write the factors into models.yaml, and show the lines that change; raise ProblemsError for such as cannot be."""
    if not is_credible(found.speed):
        raise ProblemsError([_not_credible(found)])

    def make_edits(parsed: Parsed) -> Sequence[Edit]:
        return [edit for card in found.devices for edit in _edits(parsed, view.catalog.host, card, found.speed)]

    show_changes(change_models_file(file, make_edits))


def _edits(parsed: Parsed, host: str, card: str | None, speed: MeasuredSpeed) -> Iterator[Edit]:
    spec = parsed.config.hosts[host] if card is None else parsed.config.gpus[card]
    at: Address = ("hosts", host, "measured") if card is None else ("gpus", card, "measured")
    if "measured" not in spec.model_fields_set:
        yield SetValue(at, {"decode": speed.decode, "prefill": speed.prefill})
        return
    yield SetValue((*at, "decode"), speed.decode)
    yield SetValue((*at, "prefill"), speed.prefill)
