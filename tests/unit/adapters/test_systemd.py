"""Where systemd cannot be asked, it is said in our words; the rest is in tests/contract/test_service_manager.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.systemd import Systemd, run_journalctl
from kloros_infra.errors import UnreachableError


def test_without_a_system_bus_every_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    systemd = Systemd()
    for call in (systemd.reload, lambda: systemd.start("a.service"), lambda: systemd.states(("a.service",))):
        with pytest.raises(UnreachableError) as caught:
            call()
        assert [problem.code for problem in caught.value.problems] == ["KI602"]


def test_without_a_journal_there_are_no_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_journalctl("-n", "1") == ()
