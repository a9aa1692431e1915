"""How fast an instance is foreseen to be, as its unit file says it: what plan compares must be on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.placement import Prediction

PREDICTED_SPEED_KEY = "X-Kloros-Predicted"


@dataclass(frozen=True, slots=True)
class PredictedSpeed:
    """Tokens per second with `depth` tokens of context in use, as they are written; None for what is not there."""

    decode: str | None = None
    prefill: str | None = None
    depth: str | None = None


def predicted_text(predicted: Prediction) -> str:
    """Write a prediction as one value: `decode:66.1 prefill:1480 depth:8192`."""
    figures = {
        "decode": three_digits(predicted.decode_tokens_per_s),
        "prefill": three_digits(predicted.prefill_tokens_per_s),
        "depth": str(predicted.depth_tokens),
    }
    return " ".join(f"{name}:{figure}" for name, figure in figures.items())


def read_predicted(text: str) -> PredictedSpeed:
    """Read what `predicted_text` wrote; words of another shape, by another hand or version, are passed over."""
    words: Mapping[str, str] = {
        name: figure for name, _, figure in (word.partition(":") for word in text.split()) if _is_figure(figure)
    }
    return PredictedSpeed(words.get("decode"), words.get("prefill"), words.get("depth"))


def three_digits(value: float) -> str:
    """Write a figure with the digits that an estimate has."""
    return f"{float(f'{value:.3g}'):g}" if value < 100_000 else f"{float(f'{value:.3g}'):.0f}"


def _is_figure(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
