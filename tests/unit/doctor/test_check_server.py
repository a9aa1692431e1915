"""Checks of llama-server and of what it was built for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.doctor.driver_support import for_cmake, has_machine_code, has_ptx, toolkit_for
from kloros_infra.doctor.facts import Capability, CudaBuild, Driver, NeededCard, Server, Unseen
from tests.unit.doctor.healthy import (
    BUILD,
    CLOSED_580,
    GTX_1080_TI,
    RTX_3060,
    RTX_5080,
    SERVER,
    STRANGE,
    checks,
    codes,
    line,
    wants,
)

# What two published builds of ggml's CUDA backend hold: of node-llama-cpp 3.22.1 and of cyllama-cuda12 0.2.18.
CUDA_13 = CudaBuild("libggml-cuda.so", ((8, 6), (8, 9), (12, 0), (12, 1)), ((7, 5), (8, 0), (9, 0)), 13)
CUDA_12 = CudaBuild("libggml-cuda.so", ((7, 5),), ((7, 5),), 12)


def test_a_server_that_runs_says_its_version() -> None:
    assert line("llama_server") == "/opt/llama.cpp/llama-server, version 6912 (a1b2c3d)"
    assert line("llama_server", server=None).startswith("not looked at")


def test_a_server_that_does_not_run_says_why() -> None:
    (check,) = checks("llama_server", server=Server("", trouble="it is not there", fix="Build it."))

    assert (check.code, check.detail, check.fix) == ("KI947", "it is not there", "Build it.")
    assert line("cuda_build", server=Server("", trouble="it is not there")).startswith("not looked at")
    assert line("cuda_build", server=None).startswith("not looked at")


@pytest.mark.parametrize(
    ("build", "cards", "expected"),
    [
        (BUILD, (RTX_3060, GTX_1080_TI, RTX_5080), []),
        (CUDA_13, (RTX_3060, RTX_5080), []),
        (CUDA_13, (RTX_3060, GTX_1080_TI), ["KI949"]),
        (CUDA_12, (RTX_3060,), ["KI976"]),
        (CUDA_12, (GTX_1080_TI, RTX_5080), ["KI949", "KI976"]),
        (CUDA_12, (STRANGE,), []),
        (replace(CUDA_12, machine_code=(), ptx=()), (RTX_3060,), ["KI949"]),
    ],
)
def test_a_build_is_held_against_each_card(
    build: CudaBuild, cards: tuple[NeededCard, ...], expected: list[str]
) -> None:
    assert codes("cuda_build", wanted=wants(cards=cards), server=replace(SERVER, cuda=build)) == expected


def test_pascal_and_blackwell_together_need_one_of_two_toolkits() -> None:
    cards = (RTX_5080, RTX_3060, GTX_1080_TI)
    found = checks("cuda_build", wanted=wants(cards=cards), server=replace(SERVER, cuda=CUDA_13))

    assert "CUDA 12.8 or 12.9" in found[0].fix
    assert "61;86;120" in found[0].fix
    assert found[0].detail.endswith("none for gtx1080ti (compute capability 6.1)")


@pytest.mark.parametrize(
    ("driver", "build", "expected"),
    [
        (Driver("570.86.15", is_open=True), CUDA_13, ["KI950"]),
        (CLOSED_580, CUDA_13, []),
        (Driver("470.256.02", is_open=False), CUDA_12, ["KI950"]),
        (Driver("470.256.02", is_open=False), replace(CUDA_12, runtime=None), []),
        (Driver("470.256.02", is_open=False), replace(CUDA_12, runtime=99), []),
        (None, CUDA_13, []),
        (Unseen("hidden"), CUDA_13, []),
    ],
)
def test_a_build_is_held_against_the_driver(
    driver: Driver | Unseen | None, build: CudaBuild, expected: list[str]
) -> None:
    cards = (NeededCard("fits", (8, 6) if build is CUDA_13 else (7, 5)),)

    assert codes("cuda_build", wanted=wants(cards=cards), driver=driver, server=replace(SERVER, cuda=build)) == expected


def test_a_build_without_cuda_says_what_it_has_instead() -> None:
    vulkan = replace(SERVER, cuda=None, other_devices=("vulkan", "rpc"))
    (check,) = checks("cuda_build", server=vulkan)

    assert check.code == "KI948"
    assert check.detail.endswith("was built without CUDA, but vulkan, rpc")
    assert "CUDA 12.9 or an earlier 12" in check.fix
    assert line("cuda_build", server=replace(SERVER, cuda=None)).endswith("was built without CUDA")


def test_without_capabilities_the_build_is_for_what_is_there() -> None:
    (check,) = checks("cuda_build", wanted=wants(cards=(STRANGE,)), server=replace(SERVER, cuda=None))

    assert 'CMAKE_CUDA_ARCHITECTURES="native"' in check.fix


def test_a_script_in_place_of_the_program_is_not_looked_into() -> None:
    server = replace(SERVER, cuda=Unseen("it is a script", "Name the program."))

    assert codes("cuda_build", server=server) == ["KI930"]


@pytest.mark.parametrize(
    ("cards", "toolkit"),
    [
        ([(6, 1), (12, 0)], "CUDA 12.8 or 12.9"),
        ([(6, 1), (8, 6)], "CUDA 12.9 or an earlier 12"),
        ([(8, 6), (12, 0)], "CUDA 12.8 or later"),
        ([(8, 6)], "CUDA 12 or later"),
        ([], "CUDA 12 or later"),
    ],
)
def test_a_toolkit_is_named_that_compiles_for_all(cards: list[Capability], toolkit: str) -> None:
    assert toolkit_for(cards) == toolkit


def test_machine_code_is_of_the_same_major_and_ptx_of_any_before() -> None:
    build = CudaBuild("x", machine_code=((8, 0),), ptx=((7, 5),))

    assert has_machine_code(build, (8, 0))
    assert has_machine_code(build, (8, 9))
    assert not has_machine_code(replace(build, machine_code=((8, 6),)), (8, 0))
    assert not has_machine_code(build, (9, 0))
    assert has_ptx(build, (12, 0))
    assert not has_ptx(build, (7, 0))
    assert for_cmake([(12, 0), (8, 6), (8, 6)]) == "86;120"


def test_options_that_this_build_refuses_are_a_failure() -> None:
    problems = (Diagnostic("KI258", "Unknown option", "`flash-atn` is unknown.", ""),) * 2

    assert codes("options", options=problems) == ["KI951"]
    assert line("options", options=problems).endswith("(and 1 more)")
    assert line("options", options=problems[:1]) == "KI258: `flash-atn` is unknown."
    assert line("options", wanted=wants(has_models_file=False)).startswith("not asked")


def test_the_overrider_is_asked_where_it_is_used() -> None:
    assert line("overrider") == "version 1.0.0"
    assert line("overrider", wanted=wants(uses_overrider=False)).startswith("not needed")
