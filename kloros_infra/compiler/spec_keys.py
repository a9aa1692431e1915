"""What may have been meant by a key that stands where no such setting exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from pydantic import BaseModel

from kloros_infra.compiler.composition import ASIDE, INCLUDE
from kloros_infra.compiler.settings import settings
from kloros_infra.compiler.suggest import closest, listed, suggest
from kloros_infra.ir.config import Config
from kloros_infra.ir.setting import Spec

SEARCHED = 1_000
"""For how many unknown keys of a file likely ones are searched, which takes a fraction of a millisecond each."""
LIKELY = 0.75
"""How alike two words are of which one is a slip of the other."""
ALMOST = 0.9
_SHOWN = 3
_ALMOST_ASIDE = ("x_", "X-", "X_")

_COMPOSED = "The command is composed here; further options of llama-server go under models[].arguments."
_OPTION = "Options of llama-server go under models[].arguments, by their long names without dashes."

# Keys of Ollama's Modelfile and API, llama-swap's config.yaml, llama-server's presets and vLLM, and their names here.
FOREIGN_KEYS: Mapping[str, str] = {
    "args": "models[].arguments",
    "base": "personas[].base_model",
    "batch_size": _OPTION,
    "checkendpoint": "hosts.<host>.upstream.health.path",
    "cmd": _COMPOSED,
    "command": _COMPOSED,
    "concurrencylimit": "models[].parallel",
    "context": "models[].context_tokens",
    "context_length": "models[].context_tokens",
    "ctx": "models[].context_tokens",
    "ctx_size": "models[].context_tokens",
    "device": "profiles.<profile>.gpus",
    "env": "Variables of units are composed here; options of llama-server go under models[].arguments.",
    "environment": "Variables of units are composed here; options of llama-server go under models[].arguments.",
    "extra_args": "models[].arguments",
    "fallback": "purposes.<purpose>.otherwise",
    "fallbacks": "purposes.<purpose>.otherwise",
    "filters": "personas[].sampling",
    "flash_attn": _OPTION,
    "from": "personas[].base_model",
    "gguf": "models[].versions[].gguf_url",
    "gpu": "profiles.<profile>.gpus",
    "gpu_layers": "models[].profiles.<profile>.layers",
    "groups": "models[].group",
    "healthchecktimeout": "hosts.<host>.upstream.health.timeout",
    "hf_repo": "models[].versions[].gguf_url",
    "image": "hosts.<host>.llama_server",
    "keep_alive": "models[].idle_timeout",
    "litellm_params": "hosts.<host>.upstream",
    "litellm_settings": "Nothing of LiteLLM is set here: its models are `models` and `hosts`, with `upstream`.",
    "macros": "There are no macros here: use `defaults`, or anchors of YAML.",
    "main_gpu": "profiles.<profile>.gpus",
    "max_model_len": "models[].context_tokens",
    "memory": "gpus.<gpu>.vram",
    "mlock": _OPTION,
    "mmap": _OPTION,
    "mmproj": "models[].versions[].mmproj_url",
    "model_list": "models[].id",
    "model_name": "models[].id",
    "model_path": "models[].versions[].gguf_url",
    "n_ctx": "models[].context_tokens",
    "n_gpu_layers": "models[].profiles.<profile>.layers",
    "n_parallel": "models[].parallel",
    "n_predict": "personas[].sampling.max_tokens",
    "n_threads": _OPTION,
    "ngl": "models[].profiles.<profile>.layers",
    "num_ctx": "models[].context_tokens",
    "num_gpu": "models[].profiles.<profile>.layers",
    "num_parallel": "models[].parallel",
    "num_predict": "personas[].sampling.max_tokens",
    "num_thread": _OPTION,
    "options": "personas[].sampling, or models[].arguments for llama-server's",
    "parameters": "personas[].sampling",
    "params": "personas[].sampling",
    "proxy": "hosts.<host>.upstream",
    "quant": "models[].versions[].quantization",
    "router_settings": "Which models serve a request is said by purposes.<purpose>.candidates.",
    "startport": "models[].profiles.<profile>.port",
    "system": "personas[].system_prompt",
    "template": "models[].chat_template",
    "tensor_split": "models[].profiles.<profile>.gpu_percentages",
    "threads": _OPTION,
    "ttl": "models[].idle_timeout",
    "unlisted": "Every model is listed here; `policies.clients` says who may use which.",
    "url": "models[].versions[].gguf_url",
    "use_mlock": _OPTION,
    "use_mmap": _OPTION,
    "usemodelname": "hosts.<host>.upstream.models",
    "volumes": "sandbox.read_only_paths",
}


@cache
def key_hint(key: str, spec: type[BaseModel]) -> str:
    """Say what was likely meant: a key of this part of the file, one of another part, or another program's."""
    here = _keys(spec)
    if not issubclass(spec, Spec):
        return suggest(key, here)
    likely = (
        _aside(key, spec)
        or _slip(key, here, cutoff=LIKELY)
        or foreign_hint(key)
        or _elsewhere(key)
        or _slip(key, here)
        or _foreign_slip(key)
    )
    return likely or known_here(spec)


def known_here(spec: type[BaseModel]) -> str:
    """List the keys of a part of the file."""
    return f"Known here: {listed(_keys(spec))}."


def _keys(spec: type[BaseModel]) -> tuple[str, ...]:
    """Give the keys of a part of the file; at the top there is one that is no setting."""
    return (*spec.model_fields, *((INCLUDE,) if spec is Config else ()))


def _aside(key: str, spec: type[BaseModel]) -> str | None:
    return f"Did you mean '{ASIDE}{key[2:]}'?" if spec is Config and key.startswith(_ALMOST_ASIDE) else None


def _slip(key: str, here: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    close = closest(key, here, cutoff=cutoff)
    return None if close is None else f"Did you mean {close!r}?"


def foreign_hint(key: str) -> str | None:
    """Say what a key of another program is here; None where none is known."""
    known = FOREIGN_KEYS.get(key.lower().replace("-", "_"))
    is_sentence = known is not None and known.endswith(".")
    return known if is_sentence or known is None else f"What other programs call `{key}` is {known} here."


def _foreign_slip(key: str) -> str | None:
    close = closest(key, FOREIGN_KEYS, cutoff=LIKELY)
    return None if close is None else foreign_hint(close)


def _elsewhere(key: str) -> str | None:
    places = _places()
    known = key if key in places else closest(key, places, cutoff=ALMOST)
    return None if known is None else f"`{known}` belongs {_joined(places[known])}."


@cache
def _places() -> Mapping[str, list[str]]:
    """Map every key of the language to the parts of the file that have it, the outermost first."""
    places: dict[str, list[str]] = {}
    for setting in settings():
        part = setting.path.rpartition(".")[0]
        places.setdefault(setting.name, []).append(f"in {part}" if part else "at the top of the file")
    return {name: sorted(found, key=_depth) for name, found in places.items()}


def _depth(place: str) -> tuple[int, str]:
    return place.count("."), place


def _joined(places: Iterable[str]) -> str:
    shown = list(places)
    more = f" and {len(shown) - _SHOWN} more places" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
