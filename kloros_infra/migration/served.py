"""llama-server's settings → a model in our words, as far as they say one.

What models.yaml has a key for becomes that key; placement is ours; what llama-server may be told besides goes to
`arguments`; the rest is named in a note with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import get_args

from kloros_infra.compiler.check_arguments import refusal
from kloros_infra.compiler.emit_env import PROMPT_CACHE_MIB
from kloros_infra.compiler.printable import printable
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import ArgumentValue, KvType, ModelKind, PlacementMode
from kloros_infra.ir.config_models import ChatTemplate
from kloros_infra.ir.written import ARGUMENT_PATTERN, WEIGHTS_PATTERN
from kloros_infra.migration import problems
from kloros_infra.migration.settings import Setting
from kloros_infra.placement.memory import DEFAULT_MICRO_BATCH

_PLACEMENT = frozenset({
    "cpu-moe", "device", "fit-ctx", "fit-target", "kv-offload", "main-gpu", "mmproj-offload", "n-cpu-moe",
    "n-gpu-layers", "op-offload", "override-tensor", "rpc", "spec-draft-cpu-moe", "spec-draft-device",
    "spec-draft-n-cpu-moe", "spec-draft-ngl", "spec-draft-override-tensor", "split-mode",
})  # fmt: skip
# What we set ourselves without loss, or what only the other program needs.
_OF_NO_INTEREST = frozenset({
    "dedup-cache-models", "host", "jinja", "log-colors", "log-disable", "log-file", "log-prefix", "log-timestamps",
    "metrics", "models-autoload", "offline", "port", "slots", "spec-type", "ui", "verbose", "verbosity",
    "version",
})  # fmt: skip
# Likewise, as long as they say what we do anyway.
_AS_WE_DO: Mapping[str, frozenset[str]] = {
    "cache-ram": frozenset({str(PROMPT_CACHE_MIB)}),
    "flash-attn": frozenset({"on", "auto", "true", "1", "enabled"}),
    "ubatch-size": frozenset({str(DEFAULT_MICRO_BATCH)}),
}
# Given several times, they add up; of all others the last one counts.
_ADD_UP = frozenset({
    "dry-sequence-breaker", "logit-bias",
    "override-kv", "reverse-prompt",
})  # fmt: skip
_HUB_URL = re.compile(r"https?://huggingface\.co/([^/]+)/([^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?")
_TEMPLATES = frozenset(get_args(ChatTemplate))


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub, and which of its files is meant: one by name, or that of a quantization."""

    name: str
    quantization: str = ""
    file: str = ""


@dataclass(slots=True)
class Served:
    """What a llama-server is told to serve; `weights` are a source of models.yaml, or a repository to look into."""

    weights: str | Repository | None = None
    projector: str | None = None
    takes_projector: bool = True
    """Whether a projector that lies in the same repository is loaded with the model, as llama-server does."""
    kind: ModelKind | None = None
    context_tokens: int | None = None
    parallel: int | None = None
    is_unified: bool | None = None
    cache_type_k: KvType | None = None
    cache_type_v: KvType | None = None
    chat_template: str | None = None
    placement: PlacementMode | None = None
    tensor_split: tuple[float, ...] = ()
    draft: str | None = None
    draft_max_tokens: int | None = None
    draft_min_tokens: int | None = None
    draft_min_probability: float | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    preload: bool | None = None
    drain_s: int | None = None
    idle_timeout_s: int | None = None
    arguments: dict[str, ArgumentValue] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    obstacle: str = ""
    problems: list[Diagnostic] = field(default_factory=list)

    @property
    def context_per_request(self) -> int | None:
        """Give the context of one request: slots share what is unified, and divide what is not."""
        if not self.context_tokens:
            return None
        shares = 1 if self.is_unified or self.parallel is None else self.parallel
        return self.context_tokens // shares


def read_settings(settings: Sequence[Setting]) -> Served:
    """Sort settings by where their place is here."""
    served = Served()
    placed: list[str] = []
    for setting in settings:
        if setting.name in _HANDLERS:
            _HANDLERS[setting.name](served, setting)
        elif setting.name in _PLACEMENT:
            placed.append(_written(setting))
        elif setting.name not in _OF_NO_INTEREST and not _is_as_we_do(setting):
            _further(served, setting)
    if placed:
        served.notes.append(f"placement is our own: {', '.join(placed)} left out")
    if served.weights is None and not served.obstacle:
        served.obstacle = "it names no weights"
    return served


def _is_as_we_do(setting: Setting) -> bool:
    # `-fa` took no value once.
    value = "on" if setting.value is True else str(setting.value).lower()
    return value in _AS_WE_DO.get(setting.name, ())


def _written(setting: Setting) -> str:
    return setting.name if isinstance(setting.value, bool) else f"{setting.name} {printable(setting.value)[:60]}"


def _further(served: Served, setting: Setting) -> None:
    """Take an option over as it is, if it may stand in `arguments`."""
    name = setting.name
    refused = refusal(name)
    if refused is not None:
        served.notes.append(f"{printable(name)} left out: {refused.detail.partition(': ')[2] or refused.detail}")
        return
    if not re.fullmatch(ARGUMENT_PATTERN, name):
        served.notes.append(f"{printable(name)} left out: no long option of llama-server")
        return
    if isinstance(setting.value, bool):
        served.arguments[name] = setting.value
        return
    value = _argument(setting.value)
    before = served.arguments.get(name)
    if name not in _ADD_UP or before is None:
        served.arguments[name] = value
    else:
        served.arguments[name] = (*before, value) if isinstance(before, tuple) else (before, value)


def _argument(text: str) -> int | float | str:
    """Write a number as one, so that models.yaml reads well; everything else stays text."""
    for number in (int, float):
        with suppress(ValueError):
            if str(number(text)) == text and text not in ("inf", "-inf", "nan"):
                return number(text)
    return text


def _number(served: Served, setting: Setting, *, least: float = 0) -> float | None:
    try:
        value = float(setting.value)
    except ValueError:
        value = float("nan")
    if isinstance(setting.value, bool) or not value >= least:
        expected = f"a number of {least:g} or more is expected"
        served.problems.append(problems.bad_setting(setting.span, setting.name, str(setting.value), expected))
        return None
    return value


def _context(served: Served, setting: Setting) -> None:
    value = _number(served, setting)
    served.context_tokens = int(value) if value else None


def _parallel(served: Served, setting: Setting) -> None:
    # -1 leaves the number of slots to llama-server.
    if setting.value != "-1":
        value = _number(served, setting, least=1)
        served.parallel = int(value) if value else None


def _unified(served: Served, setting: Setting) -> None:
    served.is_unified = setting.value is True


def _cache_type(key: str) -> Callable[[Served, Setting], None]:
    def handle(served: Served, setting: Setting) -> None:
        known = [one.value for one in KvType]
        if setting.value in known:
            setattr(served, key, KvType(setting.value))
        else:
            expected = f"one of {', '.join(known)} is expected"
            served.problems.append(problems.bad_setting(setting.span, setting.name, str(setting.value), expected))

    return handle


def _model(served: Served, setting: Setting) -> None:
    source, why_not = source_of_path(str(setting.value))
    served.weights = source
    served.obstacle = why_not


def source_of_path(path: str) -> tuple[str | None, str]:
    """Write a path as a source of models.yaml; None with the reason where it cannot be one."""
    if not path.startswith("/"):
        return None, f"the path {printable(path)} is relative: nothing says to which folder; write an absolute one"
    if ".." in path.split("/") or not re.fullmatch(WEIGHTS_PATTERN, f"file://{path}"):
        return None, f"the path {printable(path)} cannot be written in models.yaml"
    return f"file://{path}", ""


def _url(served: Served, setting: Setting) -> None:
    source = _hub_source(str(setting.value))
    if source is None:
        served.obstacle = f"{printable(str(setting.value))}: weights come from Hugging Face, a package, or a file here"
    served.weights = source


def _hub_source(url: str) -> str | None:
    found = _HUB_URL.fullmatch(url)
    if found is None:
        return None
    revision = "" if found[3] == "main" else f"@{found[3]}"
    source = f"hf://{found[1]}/{found[2]}{revision}/{found[4]}"
    return source if re.fullmatch(WEIGHTS_PATTERN, source) else None


def _repository(served: Served, setting: Setting) -> None:
    name, _, quantization = str(setting.value).partition(":")
    file = served.weights.file if isinstance(served.weights, Repository) else ""
    if not re.fullmatch(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+", name):
        served.obstacle = f"{printable(str(setting.value))} is no repository of Hugging Face"
        return
    served.weights = Repository(name, quantization, file)


def _repository_file(served: Served, setting: Setting) -> None:
    before = served.weights if isinstance(served.weights, Repository) else Repository("")
    served.weights = Repository(before.name, before.quantization, str(setting.value))


def _docker(served: Served, setting: Setting) -> None:
    served.obstacle = f"{_written(setting)}: weights from Docker's hub have no place here"


def _projector(served: Served, setting: Setting) -> None:
    value = str(setting.value)
    source, why_not = source_of_path(value) if setting.name == "mmproj" else (_hub_source(value), "")
    if source is None:
        served.notes.append(f"{setting.name} left out: {why_not or printable(value)}")
    else:
        served.projector, served.kind = source, served.kind or ModelKind.VISION


def _projector_beside(served: Served, setting: Setting) -> None:
    served.takes_projector = setting.value is True


def _kind(kind: ModelKind) -> Callable[[Served, Setting], None]:
    def handle(served: Served, setting: Setting) -> None:
        if setting.value:
            served.kind = kind

    return handle


def _chat_template(served: Served, setting: Setting) -> None:
    if setting.value in _TEMPLATES:
        served.chat_template = str(setting.value)
    else:
        served.notes.append("chat-template left out: it is none of llama.cpp's own; see `chat-template-file`")


def _fit(served: Served, setting: Setting) -> None:
    if setting.value == "on":
        served.placement = PlacementMode.FIT


def _tensor_split(served: Served, setting: Setting) -> None:
    try:
        shares = tuple(float(share) for share in re.split(r"[,/]", str(setting.value)))
    except ValueError:
        shares = (-1.0,)
    if any(not 0 <= share < float("inf") for share in shares):
        expected = "shares such as 3,1 are expected"
        served.problems.append(problems.bad_setting(setting.span, setting.name, str(setting.value), expected))
    else:
        served.tensor_split = shares


def _draft(served: Served, setting: Setting) -> None:
    source, why_not = source_of_path(str(setting.value))
    served.draft = source
    if source is None:
        served.notes.append(f"draft model left out: {why_not}")


def _draft_repository(served: Served, setting: Setting) -> None:
    served.notes.append(f"draft model left out: {_written(setting)}; declare it as a model, and name it under `draft`")


def _whole(key: str, *, most: int) -> Callable[[Served, Setting], None]:
    def handle(served: Served, setting: Setting) -> None:
        value = _number(served, setting)
        if value is not None:
            setattr(served, key, min(int(value), most))

    return handle


def _share(served: Served, setting: Setting) -> None:
    value = _number(served, setting)
    served.draft_min_probability = min(value, 1.0) if value is not None else None


def _names(key: str) -> Callable[[Served, Setting], None]:
    def handle(served: Served, setting: Setting) -> None:
        setattr(served, key, tuple(name for one in str(setting.value).split(",") if (name := one.strip())))

    return handle


def _idle(served: Served, setting: Setting) -> None:
    if setting.value != "-1":
        value = _number(served, setting)
        served.idle_timeout_s = int(value) if value else None


def _load_on_startup(served: Served, setting: Setting) -> None:
    served.preload = setting.value is True


_A_DAY_S = 86_400

_HANDLERS: Mapping[str, Callable[[Served, Setting], None]] = {
    "alias": _names("aliases"),
    "cache-type-k": _cache_type("cache_type_k"),
    "cache-type-v": _cache_type("cache_type_v"),
    "chat-template": _chat_template,
    "ctx-size": _context,
    "docker-repo": _docker,
    "draft": _whole("draft_max_tokens", most=64),
    "draft-min": _whole("draft_min_tokens", most=64),
    "embedding": _kind(ModelKind.EMBEDDING),
    "fit": _fit,
    "hf-file": _repository_file,
    "hf-repo": _repository,
    "kv-unified": _unified,
    "load-on-startup": _load_on_startup,
    "mmproj": _projector,
    "mmproj-auto": _projector_beside,
    "mmproj-url": _projector,
    "model": _model,
    "model-url": _url,
    "parallel": _parallel,
    "rerank": _kind(ModelKind.RERANK),
    "sleep-idle-seconds": _idle,
    "spec-draft-hf": _draft_repository,
    "spec-draft-model": _draft,
    "spec-draft-n-max": _whole("draft_max_tokens", most=64),
    "spec-draft-n-min": _whole("draft_min_tokens", most=64),
    "spec-draft-p-min": _share,
    "stop-timeout": _whole("drain_s", most=_A_DAY_S),
    "tags": _names("tags"),
    "tensor-split": _tensor_split,
}
