"""What is added → plain data in the order of models.yaml's own keys, and the text of a new file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.editing.edits import AppendItem, Edit, Value
from kloros_infra.editing.render import block_text
from kloros_infra.ir.catalog import ArgumentValue, CostTier, ModelKind, PlacementMode
from kloros_infra.migration.fitting import CPU_ONLY, Fitted, FittedModel
from kloros_infra.migration.taken_over import TakenDraft, TakenModel, TakenPersona
from kloros_infra.migration.traits import CONVERSATION

Entry = dict[str, Value]

_LIKELY_DEFAULTS = (CONVERSATION, "code_understanding", "reasoning")


def edits_of(fitted: Fitted, *, today: str) -> tuple[Edit, ...]:
    """Say what goes into a models.yaml that is there."""
    models = (AppendItem(("models",), model_value(one, today=today)) for one in fitted.models)
    personas = (AppendItem(("personas",), persona_value(one)) for one in fitted.personas)
    return (*models, *personas)


def new_file(fitted: Fitted, *, origin: str, host: str, today: str) -> str:
    """Write a models.yaml that has nothing but what was taken over, without cards."""
    models = [model_value(one, today=today) for one in fitted.models]
    personas = [persona_value(one) for one in fitted.personas]
    sections = (
        f"# Models taken over from {origin}.\n"
        "# Declare the cards of this machine under `gpus` and `profiles`; `kloros-infra init --print` shows how.\n"
        "version: 1\n",
        block_text({"hosts": {host: {"role": "local"}}}),
        block_text({"profiles": {CPU_ONLY: {"gpus": []}}}),
        _list_text("models", models),
        _list_text("personas", personas) if personas else "",
        block_text({"purposes": _purposes(fitted)}),
    )
    return "\n".join(section for section in sections if section)


def _list_text(key: str, entries: Sequence[Entry]) -> str:
    """Write a list with a blank line between its items."""
    return f"{key}:\n" + "\n".join(block_text([entry], indent=2) for entry in entries)


def model_value(fitted: FittedModel, *, today: str) -> Entry:
    """Write a model down."""
    model = fitted.model
    version_id = f"{today}-01"
    return {
        "id": model.id,
        **_kind(model.kind),
        "display_name": model.display_name,
        **_given("aliases", list(model.aliases)),
        "purpose_tags": list(model.purpose_tags),
        "context_tokens": model.context_tokens,
        "cost_tier": model.cost_tier.value,
        **_given("group", model.group),
        **_given("chat_template", model.chat_template),
        **_serving(model),
        **_draft(model.draft),
        "current_version": version_id,
        "versions": [_version(model, version_id)],
        **_profiles(fitted),
    }


def persona_value(persona: TakenPersona) -> Entry:
    """Write a persona down."""
    return {
        "id": persona.id,
        "base_model": persona.model_id,
        **_given("aliases", list(persona.aliases)),
        **_given("system_prompt", persona.system_prompt),
        **_given("sampling", dict(persona.sampling)),
        **_given("stop", list(persona.stop)),
    }


def _kind(kind: ModelKind) -> Entry:
    return {} if kind is ModelKind.CHAT else {"kind": kind.value}


def _serving(model: TakenModel) -> Entry:
    return {
        **_given("parallel", model.parallel),
        **_given("cache_type_k", model.cache_type_k and model.cache_type_k.value),
        **_given("cache_type_v", model.cache_type_v and model.cache_type_v.value),
        **_given("placement", model.placement and model.placement.value),
        **_given("arguments", {name: _argument(value) for name, value in sorted(model.arguments.items())}),
        **_given("preload", model.preload),
        **_given("pin", model.pin),
        **_given("idle_timeout", _seconds(model.idle_timeout_s)),
        **_given("drain", _seconds(model.drain_s)),
    }


def _argument(value: ArgumentValue) -> Value:
    return list(value) if isinstance(value, tuple) else value


def _draft(draft: TakenDraft | None) -> Entry:
    if draft is None:
        return {}
    settings: Entry = {
        "model": draft.model_id,
        **_given("max_tokens", draft.max_tokens),
        **_given("min_tokens", draft.min_tokens),
        **_given("min_probability", draft.min_probability),
    }
    return {"draft": settings}


def _version(model: TakenModel, version_id: str) -> Entry:
    weights = model.weights
    sources = list(weights.sources)
    return {
        "version_id": version_id,
        "gguf_url": sources[0] if len(sources) == 1 else sources,
        **_given("mmproj_url", weights.projector),
        **_given("sha256", weights.sha256),
        **_given("notes", model.notes),
    }


def _profiles(fitted: FittedModel) -> Entry:
    if not fitted.instances:
        return {}
    profiles: Entry = {name: _instance(fitted.model, port, cards) for name, port, cards in fitted.instances}
    return {"profiles": profiles}


def _instance(model: TakenModel, port: int, cards: int) -> Entry:
    """Write a model under a profile; shares are taken over where it has as many cards as they are for."""
    split = model.tensor_split
    if cards < 2 or len(split) != cards or sum(split) <= 0:
        return {"port": port}
    return {
        "port": port,
        "placement": PlacementMode.MANUAL.value,
        "gpu_percentages": list(_percentages(split)),
    }


def _percentages(split: Sequence[float]) -> Iterator[float]:
    """Make shares add up to exactly 100, to a tenth; the last one takes what rounding leaves."""
    total = sum(split)
    tenths = [round(share * 1000 / total) for share in split[:-1]]
    yield from (_plain(one) for one in (*tenths, 1000 - sum(tenths)))


def _plain(tenths: int) -> float:
    return tenths // 10 if tenths % 10 == 0 else tenths / 10


def _purposes(fitted: Fitted) -> Entry:
    """Make a purpose of each tag, cheapest model first; a conversation is what requests are taken for."""
    models = [one.model for one in fitted.models if one.model.runs]
    tags = list(dict.fromkeys(tag for model in models for tag in model.purpose_tags))
    default = next((tag for tag in _LIKELY_DEFAULTS if tag in tags), tags[0] if tags else None)
    by_cost = sorted(models, key=lambda model: _ranks(model.cost_tier))
    purposes: Entry = {}
    for tag in tags:
        candidates: Value = [model.id for model in by_cost if tag in model.purpose_tags]
        purposes[tag] = {"candidates": candidates, "default": True} if tag == default else {"candidates": candidates}
    return purposes


def _ranks(tier: CostTier) -> int:
    return tier.rank


def _seconds(seconds: int | None) -> str | None:
    """Write a duration in the largest unit that needs no fraction."""
    if seconds is None:
        return None
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _given(key: str, value: Value) -> Entry:
    """Write a key only where there is something to say."""
    return {} if value is None or value in ("", [], {}) else {key: value}
