"""Which layers see a sliding window only (llama.cpp, src/models/*.cpp, load_arch_hparams)."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.adapters.gguf_facts import Facts, per_layer
from kloros_infra.adapters.gguf_reader import MalformedError

# Layers in a period where the file does not say; all but the last of each see a window.
_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "cohere2moe": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma-embedding": 6,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "mellum": 4,
    "modern-bert": 3,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
# Of these it is the first of each that sees everything (set_swa_pattern, dense_first).
_FIRST_SEES_ALL = frozenset({"cohere2moe", "modern-bert", "smallthinker"})
# The window where the file does not say, or whatever it says.
_WINDOWS = {"exaone-moe": 128, "gemma2": 4096, "exaone4": 4096}
_FIXED_WINDOWS = {"llama4": 8192, "smallthinker": 4096}
# The file says how long a window is, and llama.cpp does not use it.
_IGNORED = frozenset({"phi3"})
# Windows in all layers that look back at all.
_EVERYWHERE = frozenset({"lfm2", "lfm2moe"})
# src/models/exaone4.cpp: the small one has none.
_EXAONE_WITH_WINDOWS_LAYERS = 64


@dataclass(frozen=True, slots=True)
class Windows:
    """A window's length, and the layers that have one: by a period, or one by one."""

    length: int = 0
    period: int = 0
    layers: tuple[int, ...] = ()


def windows_of(facts: Facts, layers: int) -> Windows:
    """Read the windows; where no rule is known, there are none: too much memory is foreseen then, never too little."""
    length = _length(facts, layers)
    if not length or facts.architecture in _IGNORED:
        return Windows()
    pattern = facts.numbers("attention.sliding_window_pattern")
    if len(pattern) > 1:
        slides = _as_array(pattern, layers)
        period = _period_of(slides)
        chosen = () if period else tuple(layer for layer, one in enumerate(slides) if one)
        return Windows(length, period, chosen)
    if facts.architecture in _EVERYWHERE:
        return Windows(length, layers=tuple(range(layers)))
    period = pattern[0] if pattern else _PERIODS.get(facts.architecture, 0)
    if period and facts.architecture in _FIRST_SEES_ALL:
        return Windows(length, layers=tuple(layer for layer in range(layers) if layer % period))
    return Windows(length, period)


def _length(facts: Facts, layers: int) -> int:
    if facts.architecture == "exaone4" and layers < _EXAONE_WITH_WINDOWS_LAYERS:
        return 0
    said = facts.numbers("attention.sliding_window")
    if facts.architecture in _FIXED_WINDOWS:
        return 0 if said and not max(said) else _FIXED_WINDOWS[facts.architecture]
    return max(said) if said else _WINDOWS.get(facts.architecture, 0)


def _as_array(pattern: tuple[int, ...], layers: int) -> tuple[bool, ...]:
    slides = tuple(bool(one) for one in per_layer(pattern, layers))
    if len(slides) < layers:
        raise MalformedError(f"its pattern of windows is for {len(slides)} of {layers} layers")
    return slides[:layers]


def _period_of(slides: tuple[bool, ...]) -> int:
    """Find the period that a pattern follows, 0 where it has none; only the first that sees all can end it."""
    period = slides.index(False) + 1 if False in slides else 0
    is_period = period > 1 and slides == tuple(layer % period < period - 1 for layer in range(len(slides)))
    return period if is_period else 0
