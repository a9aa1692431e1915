"""Spellings that are offered for names and addresses that are nearly right."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.respell import respelled
from kloros_infra.ir.names import NAME_PATTERN, PROFILE_PATTERN
from kloros_infra.ir.written import (
    ALIAS_PATTERN,
    ARGUMENT_PATTERN,
    HOST_ADDRESS_PATTERN,
    LINE_PATTERN,
    MEANINGS,
    PCI_PATTERN,
    QUANTIZATION_PATTERN,
    URL_PATTERN,
    VERSION_PATTERN,
    WEIGHTS_PATTERN,
)


@pytest.mark.parametrize(
    ("text", "pattern", "likely"),
    [
        ("Qwen 2.5", NAME_PATTERN, "qwen-2.5"),
        ("a/b", NAME_PATTERN, None),
        ("gaming-off", PROFILE_PATTERN, "gaming_off"),
        ("gpt 4", ALIAS_PATTERN, "gpt-4"),
        ("2025 11 17", VERSION_PATTERN, "2025-11-17"),
        ("--n_gpu_layers", ARGUMENT_PATTERN, "n-gpu-layers"),
        ("q4_K_M", QUANTIZATION_PATTERN, "Q4_K_M"),
        ("04:00.0", PCI_PATTERN, "0000:04:00.0"),
        ("0000:0A:00.0", PCI_PATTERN, "0000:0a:00.0"),
        ("https://box.lan/v1", HOST_ADDRESS_PATTERN, "box.lan"),
        ("127.0.0.1:4318", URL_PATTERN, "http://127.0.0.1:4318"),
        ("ftp://box.lan", URL_PATTERN, None),
        ("/models/a.gguf", WEIGHTS_PATTERN, "file:///models/a.gguf"),
        ("two\nlines", NAME_PATTERN, None),
        ("two\nlines", LINE_PATTERN, None),
    ],
)
def test_the_nearest_spelling_is_found(text: str, pattern: str, likely: str | None) -> None:
    assert respelled(text, pattern) == likely


@given(st.text(max_size=80), st.sampled_from(sorted(MEANINGS)))
def test_whatever_is_offered_is_accepted(text: str, pattern: str) -> None:
    likely = respelled(text, pattern)

    assert likely is None or re.fullmatch(pattern, likely)
