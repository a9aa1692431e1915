"""The tool's line is read, and whatever else stands there is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.placement.overrider_output import parse_output, tensor_names
from kloros_infra.placement.overrider_problems import not_configured, tool_failed
from tests.factories import a_gguf_header, a_model, a_profile, an_instance
from tests.overrider_cases import HEADERS, output_of

NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True)
DEVICES = st.sampled_from(["CPU", "CUDA0", "CUDA11"])


@pytest.mark.parametrize("name", HEADERS)
def test_recorded_outputs_name_every_tensor_of_their_model_once(name: str) -> None:
    assert sorted(parse_output(output_of(name))) == sorted(tensor_names(HEADERS[name]()))


@given(st.dictionaries(NAMES, DEVICES, min_size=1))
def test_whatever_it_could_print_is_read(devices: dict[str, str]) -> None:
    text = " ".join(["-ngl 0", *(f'-ot "{name}={device}"' for name, device in devices.items())])

    assert parse_output(text) == devices


@pytest.mark.parametrize(
    "text",
    [
        "-ngl 0 -ot a=CPU -ot 'b=CUDA1'",
        "--n-gpu-layers 0 --override-tensor a=CPU,b=CUDA1",
        '  -ot "a=CPU"\n-ot "b=CUDA1" -ot "a=CPU"\n',
    ],
)
def test_other_ways_to_write_the_same_are_read(text: str) -> None:
    assert parse_output(text) == {"a": "CPU", "b": "CUDA1"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it puts no tensor anywhere"),
        ("-ngl 0", "it puts no tensor anywhere"),
        ("[INFO] Downloading", "'[INFO]' is none of the options -ngl and -ot"),
        ("-ngl 0 -ot", "it ends behind -ot"),
        ("-ngl many -ot a=CPU", "-ngl 'many' is no number of layers"),
        ('-ot "a=CPU', "its quotes do not close"),
        ("-ot a", "'a' is no tensor's name, = and a device"),
        ("-ot a=", "'a=' is no tensor's name, = and a device"),
        (r"-ot 'blk\..*=CPU'", r"'blk\\..*=CPU' is no tensor's name, = and a device"),
        ("-ot a=b=c", "'a=b=c' is no tensor's name, = and a device"),
        ("-ot a=CPU -ot a=CUDA0", "it puts a on CPU and on CUDA0"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse_output(text)

    assert reason in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading(text: str) -> None:
    try:
        found = parse_output(text)
    except ValueError:
        return
    assert found


def test_tensors_are_those_of_the_table() -> None:
    assert sorted(tensor_names(a_gguf_header(layers=2)))[:2] == ["blk.0.attn_k.weight", "blk.0.attn_norm.weight"]


def test_a_tool_that_is_not_there_or_fails_is_told_with_what_it_wrote() -> None:
    instance = an_instance(a_model(), a_profile())

    assert instance.id.unit in not_configured(instance).detail
    failed = tool_failed("node", "ended with 1", ["unknown type"])
    assert failed.detail.startswith("node ended with 1.")
    assert "unknown type" in failed.detail
