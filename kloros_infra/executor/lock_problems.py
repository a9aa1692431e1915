"""What locking can complain of (KI318 to KI322, KI325, KI328), beside what sources and headers say themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.ir.config_models import VersionSpec
from kloros_infra.placement.published import QUANTIZATIONS, SHAPES


def no_source(url: str) -> Diagnostic:
    """Say that nothing reads such a URL."""
    return Diagnostic(
        code="KI318",
        summary="No such kind of source",
        detail=f"Nothing here reads {url}.",
        hint="Write package://module/file, file:///path or hf://owner/repository/file.",
    )


def derived(key: str, causes: Problems) -> Diagnostic:
    """Warn that a header was computed, not read."""
    return Diagnostic(
        code="KI319",
        summary="Header derived, not read",
        detail=f"{key}: {_details(causes)} Its header follows from architecture and quantization instead.",
        hint="Run `kloros-infra lock` again where the weights can be reached: until then apply refuses it.",
        severity=Severity.WARNING,
    )


def kept(key: str, causes: Problems) -> Diagnostic:
    """Warn that an entry could not be checked and stays as it was."""
    return Diagnostic(
        code="KI320",
        summary="Locked weights not checked",
        detail=f"{key}: {_details(causes)} The lock keeps what it had.",
        hint="Run `kloros-infra lock` again where the weights can be reached.",
        severity=Severity.WARNING,
    )


def cannot_be_derived(key: str, version: VersionSpec) -> Diagnostic:
    """Say that architecture and quantization are not both known here."""
    wrong = [
        _unknown("architecture", version.architecture, SHAPES),
        _unknown("quantization", version.quantization, QUANTIZATIONS),
    ]
    return Diagnostic(
        code="KI321",
        summary="Header cannot be derived",
        detail=f"{key} cannot be reached, and {'; '.join(filter(None, wrong))}.",
        hint="Mend the names in models.yaml, or run `kloros-infra lock` where the weights can be reached.",
    )


def several_commits(key: str, revisions: str) -> Diagnostic:
    """Say that parts do not come from one commit."""
    return Diagnostic(
        code="KI322",
        summary="Parts from several places",
        detail=f"The parts of {key} are of the revisions {revisions}.",
        hint="Take all parts from one repository, or join them into one file and name that.",
    )


def unknown_model(problem: Diagnostic) -> Diagnostic:
    """Say that models.yaml has no model that could be upgraded by this name; `problem` suggests another."""
    return replace(problem, code="KI325", summary="No such model to upgrade")


def wrong_role(key: str, architecture: str, *, is_projector: bool) -> Diagnostic:
    """Say that a projector stands where a model should, or the other way round."""
    return Diagnostic(
        code="KI328",
        summary="Model and projector mixed up",
        detail=f"{key} is a {architecture} file, which is {'a projector' if is_projector else 'a model'}.",
        hint="A model's own file belongs under `gguf_url`, a vision model's projector (mmproj) under `mmproj_url`.",
    )


def _unknown(what: str, name: str | None, known: Iterable[str]) -> str:
    if name is None:
        return f"it names no {what}"
    if name in known:
        return ""
    close = get_close_matches(name.lower(), [one.lower() for one in known], n=1)
    meant = next((one for one in known if close and one.lower() == close[0]), None)
    return f"{what} {name} is not known" + (f" (did you mean {meant}?)" if meant else "")


def _details(causes: Problems) -> str:
    return " ".join(cause.detail for cause in causes)
