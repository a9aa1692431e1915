"""Parameters of a Modelfile → sampling, stops, context, options of llama-server, and what has no place here.

Names and types are those of Ollama's api/types.go (Options, Runner); parser/parser.go lists the ones it gave up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kloros_infra.compiler.printable import printable
from kloros_infra.ir.catalog import ArgumentValue
from kloros_infra.ir.config_requests import SamplingSpec
from kloros_infra.migration.taken_over import SamplingValue
from kloros_infra.migration.traits import LEAST_CONTEXT_TOKENS

_MOST_STOP_CHARACTERS = 500
# Words of a chat template, such as <|im_end|>, </s> or [INST]: the weights name those at which a model ends.
_TEMPLATE_WORD = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{1,20}\]|<<SYS>>|<</SYS>>")
_PLACED = "kloros-infra places tensors and reckons the memory itself"
_WITHOUT_PLACE = {
    "draft_num_predict": "drafts are models of their own here, see `draft`",
    "f16_kv": "Ollama gave it up; `cache_type_k` and `cache_type_v` are its place",
    "logits_all": "Ollama gave it up",
    "low_vram": "Ollama gave it up",
    "main_gpu": _PLACED,
    "num_batch": _PLACED,
    "num_gpu": _PLACED,
    "num_gqa": "Ollama gave it up",
    "num_keep": "llama-server keeps the whole system prompt",
    "numa": "Ollama gave it up; `arguments: {numa: …}` is its place",
    "penalize_newline": "Ollama gave it up",
    "tfs_z": "llama-server gave it up",
    "use_mlock": "Ollama gave it up; the unit would need leave to lock memory",
    "vocab_only": "Ollama gave it up",
}


@dataclass(slots=True)
class Parameters:
    """Parameters, sorted."""

    sampling: dict[str, SamplingValue] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    context_tokens: int | None = None
    arguments: dict[str, ArgumentValue] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def sort_parameters(written: Mapping[str, Any]) -> Parameters:
    """Sort a Modelfile's parameters by where their place is here."""
    found = Parameters()
    for name, value in sorted(written.items()):
        if value is None:
            continue
        if name in _HANDLERS:
            _HANDLERS[name](found, name, value)
        elif name in SamplingSpec.model_fields and name != "max_tokens":
            _sampling(found, name, value)
        else:
            found.notes.append(f"{printable(name)} left out: {_WITHOUT_PLACE.get(name, 'not known here')}")
    return found


def _sampling(found: Parameters, name: str, value: Any) -> None:
    """Take a sampling value over where it is within its range."""
    whole = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value
    for candidate in (value, whole) if isinstance(value, int | float) else ():
        try:
            SamplingSpec.model_validate({name: candidate})
        except ValidationError:
            continue
        found.sampling[name] = candidate
        return
    found.notes.append(f"{name} left out: {printable(str(value)[:40])} is not accepted")


def _context(found: Parameters, name: str, value: Any) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= LEAST_CONTEXT_TOKENS:
        found.context_tokens = int(value)
    else:
        found.notes.append(f"{name} left out: {printable(str(value)[:40])} is not accepted")


def _most_tokens(found: Parameters, _name: str, value: Any) -> None:
    # Negative: no limit, or as far as the context goes.
    if not isinstance(value, int | float) or value > 0:
        _sampling(found, "max_tokens", value)


def _seed(found: Parameters, name: str, value: Any) -> None:
    # Negative: another one each time.
    if not isinstance(value, int | float) or value >= 0:
        _sampling(found, name, value)


def _threads(found: Parameters, name: str, value: Any) -> None:
    if isinstance(value, int | float) and value >= 1:
        found.arguments["threads"] = int(value)
    elif value != 0:
        found.notes.append(f"{name} left out: {printable(str(value)[:40])} is not accepted")


def _memory_map(found: Parameters, _name: str, value: Any) -> None:
    if value is False:
        found.arguments["mmap"] = False


def _stop(found: Parameters, _name: str, value: Any) -> None:
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]
    kept = [text for text in texts if len(text) <= _MOST_STOP_CHARACTERS and "\0" not in text]
    if kept and all(_TEMPLATE_WORD.fullmatch(text) for text in kept):
        found.notes.append("stop left out: words of the chat template, at which the weights end by themselves")
        return
    found.stop = tuple(dict.fromkeys(kept))
    if len(kept) < len(texts):
        found.notes.append(f"a stop of more than {_MOST_STOP_CHARACTERS} characters left out")


_HANDLERS: Mapping[str, Callable[[Parameters, str, Any], None]] = {
    "num_ctx": _context,
    "num_predict": _most_tokens,
    "num_thread": _threads,
    "seed": _seed,
    "stop": _stop,
    "use_mmap": _memory_map,
}
