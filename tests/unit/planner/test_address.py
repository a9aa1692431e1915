"""How a plan names what the store keeps."""

from __future__ import annotations

import pytest

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import mmproj_key, weights_key
from kloros_infra.planner.address import store_address, weights_address

LAYOUT = Layout()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (LAYOUT.weights_path("m", "1"), weights_key("m", "1")),
        (LAYOUT.weights_path("m", "1", parts=3), weights_key("m", "1")),
        (LAYOUT.mmproj_path("m", "1"), mmproj_key("m", "1")),
    ],
)
def test_what_the_store_keeps_has_the_address_of_its_lock_entry(path: str, key: str) -> None:
    assert store_address(path, LAYOUT) == weights_address(key)
