"""Checks of a model's settings against each other and its draft (KI225, KI231 to KI233, KI235, KI265)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import listed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec, VersionSpec

TEMPLATE_FILE = "chat-template-file"


def check_versions(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find versions that a model lists twice, and models of which no version is chosen."""
    for index, model in enumerate(parsed.config.models):
        seen: set[str] = set()
        for place, version in enumerate(model.versions):
            if version.version_id in seen:
                detail = f"The model {model.id} has two versions {version.version_id!r}."
                problem = Diagnostic("KI225", "Version listed twice", detail, "Give each version an id of its own.")
                yield parsed.locate(problem, ("models", index, "versions", place, "version_id"))
            seen.add(version.version_id)
        if len(model.versions) > 1 and model.current_version is None:
            yield parsed.locate(_no_version_chosen(model), ("models", index, "versions"))


def check_projectors(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find models that shall see without a projector, and projectors of models that shall not."""
    for index, model in enumerate(parsed.config.models):
        found = _version_in_use(model)
        if found is None:
            continue
        place, version = found
        is_vision = model.kind is ModelKind.VISION
        if is_vision and version.mmproj_url is None:
            yield parsed.locate(_no_projector(model.id, version.version_id), ("models", index, "kind"))
        if not is_vision and version.mmproj_url is not None:
            address = ("models", index, "versions", place, "mmproj_url")
            yield parsed.locate(_useless_projector(model), address)


def _version_in_use(model: ModelSpec) -> tuple[int, VersionSpec] | None:
    numbered = enumerate(model.versions)
    return next(((place, one) for place, one in numbered if one.version_id == model.version_in_use), None)


def check_drafts(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find draft models that cannot propose tokens, and models for which none can be proposed."""
    models = {model.id: model for model in parsed.config.models}
    for index, model in enumerate(parsed.config.models):
        if model.draft is None:
            continue
        if not model.kind.can_chat:
            detail = f"{model.id} is of kind {model.kind}: it generates no tokens that could be proposed."
            hint = "Take `draft` out."
            yield parsed.locate(_no_draft(detail, hint), ("models", index, "draft"))
        elif problem := _proposer_problem(model, models):
            yield parsed.locate(problem, ("models", index, "draft", "model"))


def _proposer_problem(model: ModelSpec, models: Mapping[str, ModelSpec]) -> Diagnostic | None:
    name = model.draft.model if model.draft else ""
    proposer = models.get(name)
    if proposer is None:
        return None
    hint = "Name a smaller model of the same family, with the same vocabulary."
    if proposer.id == model.id:
        return _no_draft(f"{model.id} shall propose tokens to itself, which makes nothing faster.", hint)
    if not proposer.kind.can_chat:
        return _no_draft(f"{proposer.id} is of kind {proposer.kind} and generates no tokens.", hint)
    if not proposer.versions:
        detail = f"{proposer.id} is served by remote hosts alone; a draft's weights are loaded beside the model's own."
        return _no_draft(detail, f"Give {proposer.id} a version with its `gguf_url`, or name another model.")
    return None


def check_chat_templates(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find chat templates of models that do not chat, and models with two of them."""
    for index, model in enumerate(parsed.config.models):
        if model.chat_template is None:
            continue
        address: Address = ("models", index, "chat_template")
        if not model.kind.can_chat:
            yield parsed.locate(_never_applied(model), address)
        elif TEMPLATE_FILE in _options_of(model, parsed.config):
            yield parsed.locate(_two_templates(model), address)


def _options_of(model: ModelSpec, config: Config) -> frozenset[str]:
    """Name the options that a model is given under some profile."""
    instances = (instance.arguments for instance in model.profiles.values() if instance is not None)
    return frozenset().union(config.defaults.arguments, model.arguments, *instances)


def _never_applied(model: ModelSpec) -> Diagnostic:
    return Diagnostic(
        code="KI235",
        summary="Chat template of a model that does not chat",
        detail=f"{model.id} is of kind {model.kind}; its `chat_template` would never be read.",
        hint="Take `chat_template` out, or correct `kind`.",
    )


def _two_templates(model: ModelSpec) -> Diagnostic:
    return Diagnostic(
        code="KI265",
        summary="Two chat templates",
        detail=f"{model.id} has `chat_template: {model.chat_template}`, and the option `{TEMPLATE_FILE}` beside it:"
        " llama-server can only follow one of them.",
        hint=f"Take `chat_template` or the option `{TEMPLATE_FILE}` out.",
        severity=Severity.WARNING,
    )


def _no_version_chosen(model: ModelSpec) -> Diagnostic:
    versions = [version.version_id for version in model.versions]
    return Diagnostic(
        code="KI231",
        summary="No version chosen",
        detail=f"{model.id} has {len(versions)} versions ({listed(versions)}), and nothing says which is installed.",
        hint=f'Add `current_version: "{versions[-1]}"`, or whichever it is.',
    )


def _no_projector(model: str, version: str) -> Diagnostic:
    return _mismatch(
        f"{model} is of kind vision, and its version {version} has no `mmproj_url`: nothing would turn images into"
        " tokens.",
        "Add the `mmproj_url` that was published beside the weights, or write `kind: chat`.",
    )


def _useless_projector(model: ModelSpec) -> Diagnostic:
    return _mismatch(
        f"{model.id} is of kind {model.kind}, and its version in use has a projector for images.",
        "Write `kind: vision`, or take `mmproj_url` out.",
    )


def _mismatch(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI232", "Kind and projector do not agree", detail, hint)


def _no_draft(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI233", "Draft that cannot propose", detail, hint)
