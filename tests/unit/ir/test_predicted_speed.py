"""A prediction in a unit file: written short, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.placement import Prediction
from kloros_infra.ir.predicted_speed import PredictedSpeed, predicted_text, read_predicted, three_digits


def a_prediction(decode: float, prefill: float) -> Prediction:
    return Prediction(prefill, decode, depth_tokens=8192, splits=3, bottleneck="CUDA0")


def test_it_is_written_as_one_value() -> None:
    assert predicted_text(a_prediction(66.1234, 1480.4)) == "decode:66.1 prefill:1480 depth:8192"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.5"), (9.996, "10"), (66.14, "66.1"), (999.6, "1000"), (12345.0, "12300"), (427931.2, "428000")],
)
def test_an_estimate_has_three_digits(value: float, expected: str) -> None:
    assert three_digits(value) == expected


@given(st.floats(0.001, 1e7), st.floats(0.001, 1e7))
def test_what_is_written_is_read(decode: float, prefill: float) -> None:
    read = read_predicted(predicted_text(a_prediction(decode, prefill)))
    assert read.decode is not None
    assert read.prefill is not None
    assert float(read.decode) == pytest.approx(decode, rel=0.006)
    assert float(read.prefill) == pytest.approx(prefill, rel=0.006)


@pytest.mark.parametrize("text", ["", "decode prefill:", "decode:nan prefill:-3", "speed:3", "decode:1.2.3"])
def test_other_words_are_passed_over(text: str) -> None:
    assert read_predicted(text) == PredictedSpeed()
