"""Which units count as up, and what is said to a router that may not manage them."""

from __future__ import annotations

import pytest

from kloros_infra.adapters.service_problems import not_allowed
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.seen_unit import SeenUnit, seen_unit


@pytest.mark.parametrize(
    ("active", "pid", "sub", "seen"),
    [
        (ActiveState.ACTIVE, 7, "running", SeenUnit(True, 7)),
        (ActiveState.RELOADING, 7, "reload", SeenUnit(True, 7)),
        (ActiveState.DEACTIVATING, 7, "stop-sigterm", SeenUnit(True, 7, is_stopping=True)),
        (ActiveState.DEACTIVATING, 0, "final-sigkill", SeenUnit(True, is_stopping=True)),
        (ActiveState.ACTIVATING, 7, "start-post", SeenUnit(True, 7)),
        (ActiveState.ACTIVATING, 0, "start-pre", SeenUnit(False)),
        (ActiveState.ACTIVATING, 0, "auto-restart", SeenUnit(False, has_failed=True, comes_back=True)),
        (ActiveState.ACTIVATING, 0, "auto-restart-queued", SeenUnit(False, has_failed=True, comes_back=True)),
        (ActiveState.INACTIVE, 0, "dead", SeenUnit(False)),
        (ActiveState.FAILED, 0, "failed", SeenUnit(False, has_failed=True)),
    ],
)
def test_a_unit_is_up_as_long_as_it_may_hold_memory(active: ActiveState, pid: int, sub: str, seen: SeenUnit) -> None:
    assert seen_unit(active, pid, sub) == seen


def test_who_may_not_manage_units_is_told_what_is_missing() -> None:
    without = not_allowed("llama@a-b.service", uid=995, has_polkit=False)
    assert (without.code, without.address) == ("KI842", "llama@a-b.service")
    assert "polkit is not installed" in without.detail
    assert "apt-get install polkitd" in without.hint
    without_rule = not_allowed("llama@a-b.service", uid=995, has_polkit=True)
    assert "no rule" in without_rule.detail
    assert "/etc/polkit-1/rules.d/50-kloros-infra.rules" in without_rule.hint
