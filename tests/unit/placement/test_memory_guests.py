"""What cards compute with matrices of layers that are elsewhere; the figures were measured with a real llama-server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.memory import TensorPlaces, Workload
from kloros_infra.placement.memory_guests import guest_bytes, lent_again_bytes
from tests.overrider_cases import HEADERS, MIB, header_of
from tests.sparse_models import FAMILIES

WORK = Workload(4096, 1, 512)


def a_32b() -> GgufHeader:
    return HEADERS["qwen25-coder-32b-q5_k_m"]()


def places(layers: int, **exceptions: str) -> TensorPlaces:
    """Put all layers on CUDA0, and tensors by the beginning of their name elsewhere."""
    rules = tuple(TensorException(f"^blk[.][0-9]+[.]{kind}", device) for kind, device in exceptions.items())
    return TensorPlaces(("CUDA0",) * (layers + 1), rules, ("CUDA0", "CUDA1"))


@pytest.mark.parametrize(
    ("header", "kinds", "measured_mib"),
    [
        (a_32b, ("ffn_up", "ffn_gate", "ffn_down"), 182),
        (a_32b, ("ffn_gate",), 64),
        (lambda: a_sparse("gemma-3-12b"), ("ffn_up", "ffn_gate"), 97),
    ],
)
def test_a_card_takes_what_goes_in_and_what_comes_out(
    header: Callable[[], GgufHeader], kinds: tuple[str, ...], measured_mib: int
) -> None:
    one = header()

    found = guest_bytes(one, WORK, places(one.layer_count, **dict.fromkeys(kinds, "CUDA1")))

    assert list(found) == ["CUDA1"]
    assert found["CUDA1"] / MIB == pytest.approx(measured_mib, abs=1)


def test_matrices_on_the_cpu_or_at_home_are_no_guests() -> None:
    assert guest_bytes(a_32b(), WORK, places(64, ffn_up=CPU, ffn_down="CUDA0")) == {}
    assert guest_bytes(a_32b(), WORK, places(64)) == {}


def a_sparse(name: str) -> GgufHeader:
    return header_of(FAMILIES[name]())


def test_a_second_matrix_of_the_cpu_is_there_where_a_layer_is_on_three_devices() -> None:
    """DeepSeek V3, all experts on the CPU and the shared ones on the second card: 1880 MiB, of which 2 x 750."""
    header = a_sparse("deepseek-v3")
    largest = max(group.size_bytes for group in header.tensors if "_exps." in group.name)

    assert (
        lent_again_bytes(header, places(61, ffn_down_shexp="CUDA1", ffn_up_shexp="CUDA1", **_all_on_cpu())) == largest
    )


def _all_on_cpu() -> dict[str, str]:
    return {f"ffn_{kind}_exps": CPU for kind in ("up", "gate", "down")}


def test_otherwise_one_is_enough() -> None:
    header = a_sparse("deepseek-v3")

    assert lent_again_bytes(header, places(61, **_all_on_cpu())) == 0
    assert lent_again_bytes(header, places(61, ffn_up_shexp="CUDA1")) == 0
    assert lent_again_bytes(header, places(61, ffn_up_shexp="CUDA1", **{**_all_on_cpu(), "ffn_up_exps": "CUDA1"})) == 0
    assert lent_again_bytes(a_32b(), places(64, ffn_up="CUDA1", ffn_down=CPU)) == 0
