"""The overrider's answers become layers and few patterns, within what the cards hold, or are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.gguf import GgufHeader, Tensor, group_tensors
from kloros_infra.ir.overrider_record import OverriderRecord, record_to_json
from kloros_infra.ir.placement import CPU, Placement, TensorException
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.engines.interface import Outcome, Request
from kloros_infra.placement.engines.overrider import follow
from kloros_infra.placement.overrider_output import parse_output, tensor_names
from kloros_infra.placement.overrider_question import question_of
from kloros_infra.placement.place import Machine, place
from tests.factories import GIB, a_card, a_tensor
from tests.overrider_cases import FOLDER, HEADERS, MIB, an_overridden, every_tensor, instance_of, output_of

MOST_PATTERN_BYTES = 2000
"""What all of them together may have, also for a 235B."""


def followed(instance: Instance, output: str) -> Outcome:
    return follow(Request(instance, Machine().devices(instance)), output)


def placed(instance: Instance, output: str) -> Placement:
    placement, problems = followed(instance, output)
    assert problems == ()
    assert placement is not None
    return placement


def refused(instance: Instance, output: str) -> Diagnostic:
    placement, problems = followed(instance, output)
    assert placement is None
    (problem,) = problems
    return problem


def printed(devices: Mapping[str, str]) -> str:
    return " ".join(["-ngl 0", *(f'-ot "{name}={device}"' for name, device in devices.items())])


def device_of(name: str, layer: int | None, placement: Placement) -> str:
    """Find a tensor's device as llama.cpp does."""
    for exception in placement.exceptions:
        if re.search(exception.pattern, name):
            return exception.device
    if layer is not None:
        return placement.layer_devices[layer]
    return CPU if name == "token_embd.weight" else placement.head_device


def in_words(placement: Placement) -> str:
    """Write down what llama-server is told, and what that takes."""
    told = (f"{name}={value}" for name, value in arguments(placement) if "CACHE" not in name)
    loads = (f"{load.device} {load.layers} layers {-(-load.total_bytes // MIB)} MiB" for load in placement.loads)
    return "".join(f"{line}\n" for line in (*told, *loads))


@pytest.mark.parametrize("case", sorted(path.name for path in FOLDER.iterdir()))
def test_recorded_outputs_are_emitted_with_layers(case: str) -> None:
    placement = placed(instance_of(case), output_of(case))

    assert in_words(placement) == (FOLDER / case / "expected.txt").read_text()
    assert placement.fits
    assert placement.engine == "overrider"


@pytest.mark.parametrize("case", HEADERS)
def test_every_matrix_is_where_the_tool_said(case: str) -> None:
    header = HEADERS[case]()
    answer = parse_output(output_of(case))
    placement = placed(instance_of(case), output_of(case))

    wrong = [
        name
        for name, shape, layer in every_tensor(header)
        if len(shape) > 1 and device_of(name, layer, placement) != answer[name]
    ]
    assert wrong == []


@pytest.mark.parametrize("case", HEADERS)
def test_patterns_are_few_and_plain(case: str) -> None:
    patterns = [one.pattern for one in placed(instance_of(case), output_of(case)).exceptions]

    assert sum(map(len, patterns)) < MOST_PATTERN_BYTES
    assert all(pattern.startswith("^") and not set(pattern) & set("\\,= '\"") for pattern in patterns)


def test_what_the_tool_does_not_count_is_refused_where_it_is_too_much() -> None:
    """At 32 768 tokens the tool would have asked for more; its answer for 16 384 does not fit then."""
    header = HEADERS["qwen25-coder-32b-q5_k_m"]()

    problem = refused(an_overridden(header, context_tokens=32768), output_of("qwen25-coder-32b-q5_k_m"))

    assert problem.code == "KI401"
    assert "on rtx5080 and has 15368 MiB there" in problem.detail


def a_header(layers: int = 4, *, is_tied: bool = False, odd_layer: int | None = None) -> GgufHeader:
    """Build a model of some MiB in which each kind of tensor has a part in a test."""
    rows: list[Tensor] = [a_tensor("token_embd.weight", 1024, 4096), a_tensor("output_norm.weight", 1024, type="F32")]
    if not is_tied:
        rows.append(a_tensor("output.weight", 1024, 4096))
    for layer in range(layers):
        at = f"blk.{layer}."
        rows += [a_tensor(f"{at}{kind}_norm.weight", 1024, type="F32") for kind in ("attn", "ffn")]
        rows += [a_tensor(f"{at}attn_{kind}.weight", 1024, 1024) for kind in ("k", "output", "q", "v")]
        rows += [a_tensor(f"{at}ffn_{kind}.weight", 1024, 4096) for kind in ("gate", "up")]
        rows += [a_tensor(f"{at}ffn_down.weight", 4096, 1024), a_tensor(f"{at}ffn_up.bias", 4096, type="F32")]
        if layer == odd_layer:
            rows.append(a_tensor(f"{at}ssm_a", 16, 1024, type="F32"))
    return GgufHeader(
        architecture="llama",
        layer_count=layers,
        embedding_length=1024,
        feed_forward_length=4096,
        head_count=8,
        head_count_kv=(8,) * layers,
        key_length=128,
        value_length=128,
        context_length=4096,
        vocabulary_size=4096,
        tensors=group_tensors(rows),
    )


def answered(
    header: GgufHeader, layers: Iterable[str], *, head: str = "CUDA0", others: Mapping[str, str] | None = None
) -> str:
    """Print an answer: layers on these devices, and the tensors of `others` (`*` for a layer) elsewhere."""
    by_layer = dict(enumerate(layers))
    devices = {name: head if layer is None else by_layer[layer] for name, _, layer in every_tensor(header)} | {
        "token_embd.weight": CPU
    }
    for pattern, device in (others or {}).items():
        expression = re.escape(pattern).replace(r"\*", "[0-9]+")
        devices |= {name: device for name in devices if re.fullmatch(expression, name)}
    return printed(devices)


def an_instance_of(header: GgufHeader, *, cards: int = 3, card_bytes: int = 4 * GIB) -> Instance:
    given = [a_card(f"card{index}", vram_bytes=card_bytes, reserve_bytes=0) for index in range(cards)]
    return an_overridden(header, *given, context_tokens=1024)


def test_layers_follow_their_attention_and_other_matrices_leave_them() -> None:
    header = a_header()
    others = {"blk.2.ffn_up.weight": "CUDA1", "blk.3.ffn_up.weight": "CUDA1", "blk.*.ffn_down.weight": CPU}

    placement = placed(an_instance_of(header), answered(header, ["CUDA0"] * 4, others=others))

    assert placement.layer_devices == ("CUDA0",) * 5
    assert placement.exceptions == (
        TensorException("^blk[.][23][.](ffn_up.bias|ffn_up.weight)$".replace("up.", "up[.]"), "CUDA1"),
        TensorException("^blk[.][0-9]+[.]ffn_down[.]weight", CPU),
    )
    assert [load.device for load in placement.loads] == ["CUDA0", "CUDA1", CPU]


def test_vectors_stay_with_their_layer_or_their_matrix() -> None:
    header = a_header()
    others = {"blk.*.ffn_norm.weight": "CUDA1", "blk.*.ffn_up.bias": CPU, "output_norm.weight": CPU}

    placement = placed(an_instance_of(header), answered(header, ["CUDA0"] * 4, others=others))

    assert placement.exceptions == ()
    assert [load.device for load in placement.loads] == ["CUDA0", CPU]


def test_attention_is_not_taken_apart() -> None:
    """The tool cuts through a layer where a card is full: most of its bytes decide for the rest."""
    header = a_header()
    others = {"blk.1.attn_k.weight": "CUDA1", "blk.2.attn_q.weight": "CUDA0"}

    placement = placed(an_instance_of(header), answered(header, ["CUDA0"] * 2 + ["CUDA1"] * 2, others=others))

    assert placement.layer_devices == ("CUDA1", "CUDA1", "CUDA0", "CUDA0", "CUDA0")
    assert placement.exceptions == ()


def test_names_without_an_ending_do_not_begin_others() -> None:
    header = a_header(odd_layer=1)

    placement = placed(an_instance_of(header), answered(header, ["CUDA0"] * 4, others={"blk.1.ssm_a": "CUDA1"}))

    assert placement.exceptions == (TensorException("^blk[.][0-9]+[.]ssm_a$", "CUDA1"),)


@pytest.mark.parametrize(
    ("layers", "head", "devices", "cards", "exceptions"),
    [
        # The head has a card to itself.
        (["CUDA0"] * 4, "CUDA2", ["CUDA0"] * 4 + ["CUDA2"], ["CUDA0", "CUDA2"], []),
        # Runs change places, so that the head is with its card's layers.
        (["CUDA0", "CUDA0", "CUDA0", "CUDA1"], "CUDA0", ["CUDA1"] + ["CUDA0"] * 4, ["CUDA1", "CUDA0"], []),
        # The head of a model whose layers are on cards can be the CPU's only as an exception.
        (["CUDA0"] * 4, CPU, ["CUDA0"] * 5, ["CUDA0"], ["^output[.]weight=CPU"]),
        # The CPU has the first layers.
        (["CUDA0", CPU, "CUDA0", CPU], "CUDA0", [CPU] * 2 + ["CUDA0"] * 3, ["CUDA0"], []),
        ([CPU] * 4, "CUDA1", [CPU] * 4 + ["CUDA1"], ["CUDA1"], []),
        ([CPU] * 4, CPU, [CPU] * 5, [], []),
    ],
)
def test_the_head_and_the_cpu_s_layers_are_where_llama_cpp_can_have_them(
    layers: list[str], head: str, devices: list[str], cards: list[str], exceptions: list[str]
) -> None:
    header = a_header()

    placement = placed(an_instance_of(header), answered(header, layers, head=head))

    assert list(placement.layer_devices) == devices
    assert [load.device for load in placement.loads] == [*cards, CPU]
    assert [f"{one.pattern}={one.device}" for one in placement.exceptions] == exceptions


def test_a_tied_head_is_with_the_last_layer() -> None:
    """The tool puts the embedding on the CPU, and the head with it; llama.cpp has a copy where the last layer is."""
    header = a_header(is_tied=True)

    placement = placed(an_instance_of(header), answered(header, ["CUDA0"] * 3 + ["CUDA1"]))

    assert placement.head_device == "CUDA1"
    assert placement.exceptions == ()


def test_layers_that_cannot_change_places_are_moved_with_a_warning() -> None:
    header = a_header(odd_layer=2)

    placement, problems = followed(
        an_instance_of(header), answered(header, ["CUDA0", "CUDA1", "CUDA0", "CUDA0"], head="CUDA1")
    )

    assert placement is not None
    assert placement.layer_devices == ("CUDA0",) * 4 + ("CUDA1",)
    # All but its attention is where the tool said.
    assert [one.pattern for one in placement.exceptions if one.device == "CUDA1"]
    (problem,) = problems
    assert (problem.code, problem.severity) == ("KI425", Severity.WARNING)
    assert ": 1 of them go to another device" in problem.detail


def test_a_layer_without_tensors_does_not_matter() -> None:
    header = a_header()
    empty = replace(header, layer_count=5, head_count_kv=(8,) * 4 + (0,))

    placement, _ = followed(an_instance_of(empty), answered(empty, ["CUDA0"] * 5))

    assert placement is not None
    assert placement.layer_devices == ("CUDA0",) * 6


def test_what_is_computed_beside_a_layer_takes_memory_and_time() -> None:
    header = a_header()
    together = placed(an_instance_of(header), answered(header, ["CUDA0"] * 4))
    apart = placed(an_instance_of(header), answered(header, ["CUDA0"] * 4, others={"blk.*.ffn_down.weight": "CUDA1"}))

    # What goes in and what comes out, for each token of a micro-batch.
    assert apart.loads[1].compute_bytes == 4 * 512 * (4096 + 1024)
    assert together.predicted is not None
    assert apart.predicted is not None
    assert (together.predicted.splits, apart.predicted.splits) == (2, 10)
    assert apart.predicted.decode_tokens_per_s < together.predicted.decode_tokens_per_s


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("-ngl 0", "hello", "KI422", ["'hello' is none of the options"]),
        ("blk.0.ffn_up.weight", "blk.0.ffn_ups.weight", "KI423", ["the tensor blk.0.ffn_ups.weight that is not there"]),
        ("output.weight=CUDA0", "output.weight=CUDA7", "KI423", ["the device CUDA7 that is not there"]),
        ('-ot "output.weight=CUDA0"', "", "KI424", ["where the tensor output.weight shall go"]),
    ],
)
def test_answers_of_something_else_are_refused(old: str, new: str, code: str, words: list[str]) -> None:
    header = a_header()
    text = answered(header, ["CUDA0"] * 4)
    assert old in text

    placement, problems = followed(an_instance_of(header), text.replace(old, new, 1))

    assert placement is None
    found = next(problem for problem in problems if problem.code == code)
    assert all(word in found.detail for word in words)


def test_names_that_are_nearly_right_are_suggested_and_many_are_counted() -> None:
    header = a_header()
    text = answered(header, ["CUDA0"] * 4).replace(".ffn_up.weight", ".ffn_ups.weight")

    _, (unknown, missing) = followed(an_instance_of(header), text)

    assert unknown.hint.startswith("Did you mean blk.0.ffn_up.weight? ")
    assert "blk.2.ffn_ups.weight and 1 more that are not there" in unknown.detail
    assert "the tensors blk.0.ffn_up.weight, blk.1.ffn_up.weight" in missing.detail


def test_a_plan_that_fills_host_memory_names_it() -> None:
    header = a_header()
    instance = an_instance_of(header)
    devices = Machine().devices(instance)
    full = (*devices[:-1], replace(devices[-1], usable_bytes=MIB))

    placement, (problem,) = follow(Request(instance, full), answered(header, [CPU] * 4, head=CPU))

    assert placement is None
    assert "on the host and has 1 MiB there" in problem.detail


def recorded(instance: Instance, output: str) -> Machine:
    text = record_to_json(OverriderRecord(question_of(instance), "1.0.0", output))
    return Machine(overrider_records={str(instance.id): text})


def test_a_recorded_answer_is_followed() -> None:
    header = a_header()
    instance = an_instance_of(header)
    output = answered(header, ["CUDA0"] * 4)

    assert place(instance, recorded(instance, output)) == followed(instance, output)


def test_without_a_record_it_is_said_how_to_get_one() -> None:
    _, (problem,) = place(an_instance_of(a_header()))

    assert problem.code == "KI403"
    assert "kloros-infra lock" in problem.hint


def test_a_record_of_another_question_is_out_of_date() -> None:
    instance = an_instance_of(a_header())
    machine = recorded(instance, answered(a_header(), ["CUDA0"] * 4))
    longer = replace(instance, serving=replace(instance.serving, context_tokens=2048))

    placement, (problem,) = place(longer, machine)

    assert placement is None
    assert problem.code == "KI420"
    assert "context tokens: 1024, now 2048" in problem.detail


def test_a_record_that_is_none_is_reported() -> None:
    instance = an_instance_of(a_header())

    _, (problem,) = place(instance, Machine(overrider_records={str(instance.id): "{}"}))

    assert problem.code == "KI421"
    assert "version: Field required" in problem.detail


def test_every_tensor_of_a_case_is_one_of_its_model() -> None:
    """The cases' folder has what the tool printed, and what becomes of it, for each header."""
    assert {path.name for path in FOLDER.iterdir()} == set(HEADERS)
    for name, header in HEADERS.items():
        assert set(parse_output(Path(FOLDER / name / "output.txt").read_text())) == set(tensor_names(header()))
