"""Our own table of block sizes against that of the `gguf` package, which the core may not import."""

from __future__ import annotations

import gguf
import pytest

from kloros_infra.placement.block_sizes import BLOCKS, tensor_bytes


def test_the_table_is_that_of_the_gguf_package() -> None:
    published = {type_.name: (int(values), int(size)) for type_, (values, size) in gguf.GGML_QUANT_SIZES.items()}

    # A newer package may know types that are not in ours; what is in ours must be right.
    assert {name: published[name] for name in BLOCKS} == dict(BLOCKS)


@pytest.mark.parametrize(
    ("type_", "shape", "size_bytes"),
    [("F32", (64,), 256), ("Q4_0", (64, 3), 108), ("Q6_K", (256, 2), 420), ("F16", (0,), 0)],
)
def test_a_tensor_is_whole_blocks(type_: str, shape: tuple[int, ...], size_bytes: int) -> None:
    assert tensor_bytes(type_, shape) == size_bytes
