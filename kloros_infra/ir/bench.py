"""What a running llama-server was measured to do."""

from __future__ import annotations

from dataclasses import dataclass

NEW_TOKENS = 32
"""How many are generated behind a prompt."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The speed of one prompt of `depth_tokens`, and of the tokens generated behind it."""

    depth_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
