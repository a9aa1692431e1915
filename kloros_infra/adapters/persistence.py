"""Have nvidia-persistenced let go of a card: it holds the card's device file open so that the driver stays loaded."""

from __future__ import annotations

import os
from pathlib import Path

from kloros_infra.adapters.bounded_program import Bounds, TooMuchOutputError, run_bounded

DAEMON = "nvidia-persiste"
"""Its name as the kernel has it, which keeps 15 letters (proc_pid_comm(5))."""
_BOUNDS = Bounds(timeout_s=5.0, output_bytes=2**16)


def end_persistence(pci: str) -> bool:
    """Switch a card's persistence mode off (nvidia-smi(1), `-pm`); say whether that was done."""
    try:
        words = ("nvidia-smi", "-i", pci, "-pm", "0")
        return run_bounded(words, folder=Path("/"), environment=os.environ, bounds=_BOUNDS).status == 0
    except (OSError, TooMuchOutputError):
        return False
