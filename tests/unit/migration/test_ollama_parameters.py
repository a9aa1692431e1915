"""A Modelfile's parameters find their places, or are named in a note."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.migration.ollama_parameters import sort_parameters


def test_sampling_keeps_its_names_and_numbers() -> None:
    found = sort_parameters(
        {"temperature": 0.2, "top_k": 40.0, "top_p": 0.9, "repeat_last_n": -1, "seed": 7, "num_predict": 100}
    )
    assert found.sampling == {
        "max_tokens": 100,
        "repeat_last_n": -1,
        "seed": 7,
        "temperature": 0.2,
        "top_k": 40,
        "top_p": 0.9,
    }
    assert isinstance(found.sampling["top_k"], int)
    assert found.notes == []


@pytest.mark.parametrize(("name", "value"), [("num_predict", -1), ("num_predict", -2), ("seed", -1), ("num_thread", 0)])
def test_what_says_nothing_is_left_out_silently(name: str, value: int) -> None:
    found = sort_parameters({name: value, "top_k": None, "use_mmap": True})
    assert (found.sampling, found.arguments, found.notes) == ({}, {}, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 9),
        ("temperature", "hot"),
        ("top_k", 1.5),
        ("top_p", [1]),
        ("num_ctx", 8),
        ("num_ctx", True),
        ("num_ctx", "many"),
        ("num_predict", "many"),
        ("seed", "x"),
        ("num_thread", "x"),
        ("num_thread", -3),
    ],
)
def test_values_out_of_range_are_noted(name: str, value: Any) -> None:
    found = sort_parameters({name: value})
    assert found.sampling == {}
    assert found.context_tokens is None
    assert len(found.notes) == 1
    assert "not accepted" in found.notes[0]


def test_options_of_the_server_become_arguments() -> None:
    found = sort_parameters({"num_ctx": 4096.0, "num_thread": 8, "use_mmap": False})
    assert found.context_tokens == 4096
    assert found.arguments == {"threads": 8, "mmap": False}


@pytest.mark.parametrize("name", ["num_gpu", "low_vram", "no\nsuch"])
def test_what_has_no_place_is_noted(name: str) -> None:
    (note,) = sort_parameters({name: 1}).notes
    assert "left out" in note
    assert note.isprintable()


def test_stops_of_a_chat_template_are_left_to_the_weights() -> None:
    found = sort_parameters({"stop": ["<|im_start|>", "</s>", "[INST]", "<<SYS>>"]})
    assert found.stop == ()
    assert "weights end by themselves" in found.notes[0]


def test_other_stops_are_kept_all_of_them() -> None:
    assert sort_parameters({"stop": ["<|im_start|>", "User:", "User:", ""]}).stop == ("<|im_start|>", "User:")
    assert sort_parameters({"stop": "User:"}).stop == ("User:",)


def test_a_stop_that_is_too_long_is_noted() -> None:
    found = sort_parameters({"stop": ["x" * 501, "User:", 3]})
    assert found.stop == ("User:",)
    assert "501" not in found.notes[0]
    assert "500" in found.notes[0]
