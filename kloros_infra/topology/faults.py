"""Which of the events that NVIDIA's driver reports speak against a card.

The numbers are those of NVIDIA's "Xid Errors"; what a program does wrong (13, 31, 43, 45, 68, 109) says nothing about
the card, and NVIDIA's device plugin for Kubernetes ignores these as well.
"""

from __future__ import annotations

from typing import assert_never

from kloros_infra.ir.card_facts import Fault, FaultKind

XID_WORDS = {
    48: "double-bit memory error",
    63: "memory row or page retired",
    64: "memory row or page could not be retired",
    74: "NVLink error",
    79: "fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "its system processor (GSP) timed out",
    120: "error in its system processor (GSP)",
}
"""Faults of a card; any other number is none: quarantine ends by hand only, so it takes a reason."""


def is_of_card(fault: Fault) -> bool:
    """Say whether the card is at fault, and not a program that used it."""
    return fault.kind is not FaultKind.XID or fault.xid in XID_WORDS


def fault_words(fault: Fault) -> str:
    """Name a fault of a card as people look for it."""
    match fault.kind:
        case FaultKind.XID:
            return f"XID {fault.xid}, {XID_WORDS[fault.xid or 0]}"
        case FaultKind.LOST:
            return "the driver has lost it"
        case FaultKind.RESET_REQUIRED:
            return "the driver wants it reset"
        case _ as never:
            assert_never(never)
