"""llama-server's table of what it needs, and what placement makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.load_report import SeenDevice
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.ir.placement import DeviceLoad, Placement
from kloros_infra.placement.memory_breakdown import breakdown_problems, is_as_foreseen, parse_breakdown, seen_devices

MIB = 2**20
# b10068 with pretend cards.
TABLE = """\
0.00.051.576 I common_params_fit_impl: getting device memory data for initial parameters:
0.00.119.194 I common_memory_breakdown_print: | memory breakdown [MiB] | total    free    self   model   context   compute    unaccounted |
0.00.119.204 I common_memory_breakdown_print: |   - CUDA0 (RTX 5080)   | 15880 = 15500 + (2307 =  1875 +     240 +     192) +       -1927 |
0.00.119.205 I common_memory_breakdown_print: |   - CUDA1 (RTX 3060)   | 11906 = 11650 + (2480 =  2052 +     208 +     220) +       -2224 |
0.00.119.205 I common_memory_breakdown_print: |   - Host               |                   338 =   292 +       0 +      46                |
0.00.119.206 I common_memory_breakdown_print: |   - CPU_REPACK         |                   100 =   100 +       0 +       0                |
0.00.120.932 I common_params_fit_impl: projected memory use with initial parameters [MiB]:
""".splitlines()  # noqa: E501 - lines of a log
MEASURED = (
    MeasuredLoad("CUDA0", 1875, 240, 192, 15880, 15500, "RTX 5080"),
    MeasuredLoad("CUDA1", 2052, 208, 220, 11906, 11650, "RTX 3060"),
    MeasuredLoad("CPU", 392, 0, 46),
)


def a_load(device: str, weights: int, state: int, compute: int, **others: int | None) -> DeviceLoad:
    """Build a load in MiB."""
    capacity, extra = others.get("capacity"), others.get("extra") or 0
    card = None if device == "CPU" else f"card-{device}"
    sizes = (weights * MIB, state * MIB, compute * MIB)
    return DeviceLoad(device, card, 14, *sizes, None if capacity is None else capacity * MIB, extra * MIB)


LOADS = (a_load("CUDA0", 1876, 240, 190), a_load("CUDA1", 2052, 208, 222), a_load("CPU", 392, 0, 46))


def a_placement(*loads: DeviceLoad) -> Placement:
    """Build a placement with these loads."""
    return Placement("solver", ("CUDA0", "CUDA1"), (), loads, 4096, 1, 512)


def test_the_table_is_read() -> None:
    assert parse_breakdown(TABLE) == MEASURED


def test_of_two_tables_the_first_counts() -> None:
    """Where --fit changes a setting, it measures again."""
    later = [line.replace("1875", "9") for line in TABLE]

    assert parse_breakdown([*TABLE, *later]) == MEASURED


@pytest.mark.parametrize("lines", [TABLE[:1], TABLE[:-1], TABLE[2:], []])
def test_a_table_that_is_not_whole_is_none(lines: list[str]) -> None:
    assert parse_breakdown(lines) is None


def test_devices_of_other_hosts_have_their_short_name() -> None:
    row = TABLE[2].replace("CUDA0 (RTX 5080)   ", "RPC0[127.0.0.1:50052] (127.0.0.1:50052)")

    found = parse_breakdown([TABLE[1], row, TABLE[-1]])

    assert found is not None
    assert [one.device for one in found] == ["RPC0", "CPU"]
    assert seen_devices(found) == (SeenDevice("RPC0", "127.0.0.1:50052", 15880 * MIB),)


def test_the_devices_of_the_table_are_described() -> None:
    assert seen_devices(MEASURED) == (
        SeenDevice("CUDA0", "RTX 5080", 15880 * MIB),
        SeenDevice("CUDA1", "RTX 3060", 11906 * MIB),
    )
    assert seen_devices([MeasuredLoad("CUDA0", 1, 1, 1)]) == (SeenDevice("CUDA0"),)


def test_what_is_as_foreseen_is_fine() -> None:
    assert breakdown_problems(a_placement(*LOADS), MEASURED) == ()


@pytest.mark.parametrize(
    ("foreseen", "measured", "is_fine"),
    [
        (1000, 1000, True),
        # 64 MiB, and 3 where each of three figures was rounded down.
        (1067, 1000, True),
        (1068, 1000, False),
        (936, 1000, True),
        (935, 1000, False),
        (10303, 10000, True),
        (10304, 10000, False),
        (9700, 10000, True),
        (9699, 10000, False),
    ],
)
def test_the_tolerance(foreseen: int, measured: int, is_fine: bool) -> None:
    assert is_as_foreseen(a_load("CUDA0", foreseen, 0, 0), MeasuredLoad("CUDA0", measured, 0, 0)) == is_fine


def test_both_figures_of_what_differs_are_told() -> None:
    off = replace(LOADS[0], kv_bytes=1000 * MIB)

    (problem,) = breakdown_problems(a_placement(off, *LOADS[1:]), MEASURED, "models.a.profiles.b")

    assert (problem.code, problem.address) == ("KI432", "models.a.profiles.b")
    assert "3066 MiB and llama-server needs 2307 MiB" in problem.detail
    assert "keys and values 1000 and 240" in problem.detail


def test_what_does_not_fit_is_told_with_what_is_beside_it() -> None:
    full = a_load("CUDA0", 1876, 240, 190, capacity=2400, extra=100)

    (problem,) = breakdown_problems(a_placement(full, *LOADS[1:]), MEASURED)

    assert problem.code == "KI433"
    assert "card-CUDA0 (CUDA0) llama-server needs 2407 MiB for it, and 2400 MiB" in problem.detail


def test_a_device_that_is_not_there_is_told() -> None:
    (problem,) = breakdown_problems(a_placement(*LOADS), MEASURED[1:])

    assert problem.code == "KI431"
    assert "card-CUDA0 (CUDA0)" in problem.detail


def test_host_memory_is_named_as_such() -> None:
    off = a_load("CPU", 4000, 0, 0)

    (problem,) = breakdown_problems(a_placement(*LOADS[:2], off), MEASURED)

    assert problem.detail.startswith("On CPU the plan")
