"""What other programs' stores and configurations can have wrong (KI540 to KI555).

A model that cannot be taken over is a warning, so that the others are; a file that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Severity, Span


def no_store(looked_in: Iterable[str]) -> Diagnostic:
    """Say that there is no Ollama store."""
    return Diagnostic(
        code="KI540",
        summary="No Ollama store",
        detail=f"There is no folder `manifests` in {', '.join(looked_in)}.",
        hint="Name the store with --store: the folder that holds `manifests` and `blobs`.",
    )


def bad_manifest(span: Span, reason: str) -> Diagnostic:
    """Say that a manifest is not what Ollama writes."""
    return Diagnostic(
        code="KI541",
        summary="Manifest not readable",
        detail=f"{printable(reason)}.",
        hint="Pull the model again with Ollama, or remove it there; the other models are taken over.",
        severity=Severity.WARNING,
        span=span,
    )


def outside_store(span: Span, what: str) -> Diagnostic:
    """Say that something leads out of the store."""
    return Diagnostic(
        code="KI542",
        summary="Leads out of the Ollama store",
        detail=f"{printable(what)}.",
        hint="Ollama writes nothing of the kind: check who wrote this store before you use anything of it.",
        severity=Severity.WARNING,
        span=span,
    )


def blob_missing(span: Span, digest: str, reason: str) -> Diagnostic:
    """Say that a layer's file is not there as a whole."""
    return Diagnostic(
        code="KI543",
        summary="Layer missing from the Ollama store",
        detail=f"{printable(digest)}: {reason}.",
        hint="Pull the model again with Ollama; an interrupted pull goes on where it stopped.",
        severity=Severity.WARNING,
        span=span,
    )


def bad_layer(file: str, what: str, reason: str, *, line: int = 1, column: int = 1) -> Diagnostic:
    """Say that a small layer cannot be read as what it is."""
    return Diagnostic(
        code="KI544",
        summary="Layer not readable",
        detail=f"The {what} of this model: {printable(reason)}.",
        hint="Create the model again in Ollama, or write the values into models.yaml by hand.",
        severity=Severity.WARNING,
        span=Span(file, line, column),
    )


def unknown_model(name: str, known: Iterable[str]) -> Diagnostic:
    """Say that a store or configuration has no model of a name that was asked for."""
    return Diagnostic(
        code="KI545",
        summary="No such model to import",
        detail=f"{printable(name)!r} is not there.",
        hint=suggest(name, known),
    )


def nothing_there(origin: str) -> Diagnostic:
    """Say that nothing could be taken over."""
    return Diagnostic(
        code="KI546",
        summary="Nothing to take over",
        detail=f"{printable(origin)} has no model that can be taken over.",
        hint="The report above says why for each one.",
    )


def bad_command(span: Span, model: str, reason: str) -> Diagnostic:
    """Say that a model's command cannot be split into words."""
    return Diagnostic(
        code="KI547",
        summary="Command not understood",
        detail=f"The command of {printable(model)}: {reason}.",
        hint="Close every quotation; a line that ends with a backslash goes on in the next one.",
        severity=Severity.WARNING,
        span=span,
    )


def unknown_macro(span: Span, macro: str, known: Iterable[str]) -> Diagnostic:
    """Say that nothing defines a macro."""
    return Diagnostic(
        code="KI548",
        summary="Macro unknown",
        detail=f"Nothing defines ${{{printable(macro)}}} here.",
        hint=suggest(macro, known),
        severity=Severity.WARNING,
        span=span,
    )


def unset_variable(span: Span, name: str) -> Diagnostic:
    """Say that an environment variable is not set here."""
    return Diagnostic(
        code="KI549",
        summary="Environment variable not set",
        detail=f"${{env.{name}}} asks for {name}, which is not set.",
        hint=f"Set {name} as llama-swap's own service does, and run the import again.",
        severity=Severity.WARNING,
        span=span,
    )


def bad_macro(span: Span, macro: str, reason: str) -> Diagnostic:
    """Say that a macro is not one."""
    return Diagnostic(
        code="KI550",
        summary="Macro not accepted",
        detail=f"{printable(macro)}: {reason}.",
        hint="llama-swap takes texts, numbers, true and false, under names of letters, digits, '_' and '-'.",
        span=span,
    )


def bad_setting(span: Span | None, name: str, value: str, expected: str) -> Diagnostic:
    """Say that an option's value is none."""
    return Diagnostic(
        code="KI551",
        summary="Option's value not understood",
        detail=f"{printable(name)} is {printable(value)!r}; {expected}.",
        hint="llama-server would not start with it either: correct it there and import again.",
        severity=Severity.WARNING,
        span=span,
    )


def bad_preset_line(span: Span, reason: str) -> Diagnostic:
    """Say that a line is neither a section nor a key with a value."""
    return Diagnostic(
        code="KI552",
        summary="Line not understood",
        detail=f"{reason}.",
        hint="A preset file has lines `[model]`, `option = value`, and comments that begin with ; or #.",
        span=span,
    )


def written_twice(span: Span, first: Span, what: str) -> Diagnostic:
    """Say that something stands there twice, of which the last counts."""
    return Diagnostic(
        code="KI553",
        summary="Written twice",
        detail=f"{printable(what)} stands in line {first.line} already; the last one counts for llama-server.",
        hint="Keep one of the two.",
        severity=Severity.WARNING,
        span=span,
    )


def unknown_member(span: Span, group: str, member: str, known: Iterable[str]) -> Diagnostic:
    """Say that a group or a hook names a model that is not there."""
    return Diagnostic(
        code="KI554",
        summary="Unknown model in a list",
        detail=f"{printable(group)} names {printable(member)!r}, which is no model of this file.",
        hint=suggest(member, known),
        severity=Severity.WARNING,
        span=span,
    )


def nothing_to_export(profile: str) -> Diagnostic:
    """Say that nothing runs under a profile."""
    return Diagnostic(
        code="KI555",
        summary="Nothing to export",
        detail=f"No model runs under the profile {profile!r}.",
        hint="Name another profile with --profile.",
    )
