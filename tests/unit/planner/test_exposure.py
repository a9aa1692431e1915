"""What plan reckons of a service's exposure; tests/contract/test_exposure.py holds it against systemd itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.planner.exposure import exposure

CLOSED = (
    "[Service]\nDynamicUser=yes\nCapabilityBoundingSet=\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\n"
    "PrivateDevices=yes\nPrivateMounts=yes\nPrivateNetwork=yes\nPrivateUsers=yes\nProtectControlGroups=yes\n"
    "ProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\n"
    "RestrictNamespaces=yes\nRestrictRealtime=yes\nProtectHome=yes\nProtectProc=invisible\nUMask=0077\n"
    "SystemCallArchitectures=native\nIPAddressDeny=any\nRestrictAddressFamilies=AF_UNIX\n"
    "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n"
)
LINES = [*CLOSED.splitlines(), "SystemCallFilter=", "SystemCallFilter=sched_yield", "User=x", "[Unit]", "=", "x"]


def test_what_is_closed_scores_next_to_nothing_and_what_is_open_nearly_all() -> None:
    # ProtectClock= would let one device in; it is the only thing that is left open.
    assert exposure(CLOSED) == 0.3
    assert exposure("[Service]\nExecStart=/bin/true\n") == 9.6


@pytest.mark.parametrize(
    ("extra", "score"),
    [
        ("SystemCallFilter=sched_setscheduler\n", 0.4),
        ("ProtectHome=tmpfs\n", 0.3),
        ("ProtectHome=read-only\n", 0.4),
        ("ProtectProc=noaccess\n", 0.3),
        ("IPAddressAllow=localhost\n", 0.3),
        ("UMask=0022\n", 0.3),
        ("DeviceAllow=char-x rw\n", 0.4),
        ("PrivateTmp=no\n", 0.3),
        ("CapabilityBoundingSet=CAP_MKNOD CAP_CHOWN\n", 0.5),
        ("CapabilityBoundingSet=CAP_SYS_ADMIN\n", 2.8),
        ("SystemCallFilter=@chown\n", 0.4),
    ],
)
def test_the_last_word_counts_and_lists_are_joined(extra: str, score: float) -> None:
    assert exposure(CLOSED + extra) == score


def test_a_service_of_root_is_judged_by_what_can_matter_to_it() -> None:
    assert exposure(CLOSED.replace("DynamicUser=yes\n", "")) >= exposure(CLOSED) + 1


@given(st.lists(st.sampled_from(LINES)))
def test_any_file_has_a_score(lines: list[str]) -> None:
    assert 0 <= exposure("[Service]\n" + "\n".join(lines)) <= 10


@given(st.sampled_from(CLOSED.splitlines()[1:]))
def test_leaving_a_line_out_never_makes_it_safer(line: str) -> None:
    assert exposure(CLOSED.replace(f"{line}\n", "")) >= exposure(CLOSED)
