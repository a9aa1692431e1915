"""Checks of models.yaml against the headers that the lock holds: vocabularies and chat templates (KI234, KI236)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, weights_key

# llama.cpp, common/speculative.cpp, SPEC_VOCAB_MAX_SIZE_DIFFERENCE: vocabularies of one family may be padded.
VOCABULARY_DIFFERENCE = 128


def check_vocabularies(parsed: Parsed, lock: Lock) -> Iterator[Diagnostic]:
    """Find draft models whose tokens mean something else to the model that checks them."""
    models = {model.id: model for model in parsed.config.models}
    for index, model in enumerate(parsed.config.models):
        proposer = models.get(model.draft.model) if model.draft else None
        if proposer is None:
            continue
        own, proposed = _header(model, lock), _header(proposer, lock)
        difference = _vocabulary_difference(own, proposed) if own and proposed else None
        if difference is not None:
            problem = _other_vocabulary(model.id, proposer.id, difference)
            yield parsed.locate(problem, ("models", index, "draft", "model"))


def check_templates(parsed: Parsed, lock: Lock) -> Iterator[Diagnostic]:
    """Find personas that are written for another chat template than their model's."""
    models = {model.id: model for model in parsed.config.models}
    for index, persona in enumerate(parsed.config.personas):
        model = models.get(persona.base_model)
        if persona.chat_template is None or model is None:
            continue
        if problem := _contradiction(persona.id, persona.chat_template, model, lock):
            yield parsed.locate(problem, ("personas", index, "chat_template"))


def _header(model: ModelSpec, lock: Lock) -> GgufHeader | None:
    entry = lock.weights.get(weights_key(model.id, model.version_in_use or ""))
    return entry.header if entry else None


def _vocabulary_difference(own: GgufHeader, proposed: GgufHeader) -> str | None:
    """Say in what two vocabularies differ; None where they are one, or the headers do not tell."""
    for what, here, there in (
        ("tokenizer", own.tokenizer_model, proposed.tokenizer_model),
        ("way of cutting text", own.tokenizer_pre, proposed.tokenizer_pre),
    ):
        if here is not None and there is not None and here != there:
            return f"{what} {there} instead of {here}"
    if abs(own.vocabulary_size - proposed.vocabulary_size) > VOCABULARY_DIFFERENCE:
        return f"{proposed.vocabulary_size} tokens instead of {own.vocabulary_size}"
    return None


def _contradiction(persona: str, wanted: str, model: ModelSpec, lock: Lock) -> Diagnostic | None:
    if model.chat_template is not None:
        if model.chat_template != wanted:
            return _other_template(persona, wanted, model, f"{model.chat_template}, as its `chat_template` says")
        return None
    header = _header(model, lock)
    # What is found in a file is its family: llama.cpp cannot tell mistral-v7-tekken from mistral-v7.
    found = header.chat_template_name if header else None
    if found is None or _family(found) == _family(wanted):
        return None
    return _other_template(persona, wanted, model, f"{found}, as its weights file says")


def _other_template(persona: str, wanted: str, model: ModelSpec, actual: str) -> Diagnostic:
    return Diagnostic(
        code="KI236",
        summary="Chat template contradicts the model's",
        detail=f"{persona} is written for {wanted}; {model.id} is asked with {actual}.",
        hint=f"Write the persona for the model's template, choose another base_model, or give {model.id}"
        f" `chat_template: {wanted}` if it was trained with that.",
    )


def _family(template: str) -> str:
    return template.partition("-")[0]


def _other_vocabulary(model: str, proposer: str, difference: str) -> Diagnostic:
    return Diagnostic(
        code="KI234",
        summary="Draft with another vocabulary",
        detail=f"{proposer} has another vocabulary than {model}: {difference}. Its proposals would mean other texts.",
        hint="Name a smaller model of the same family.",
    )
