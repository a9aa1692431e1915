"""Say why a remote host did not serve a request: KI825 in its own words, KI874 and KI875 in ours."""

from __future__ import annotations

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Target

_TOO_MUCH = 429
_OURS = {
    401: "it does not take the credential that this router sends",
    403: "it does not let this router in",
    404: "it knows neither the path nor the model that models.yaml says it serves",
}
"""What a host says to the router and not to whoever asked, who is not to read it: it may repeat a part of a key."""
_FAULT = 500


def host_refused(target: Target, status: int, message: str) -> Diagnostic:
    """Say why a host answered with an error; its own words are given only where they are about the request."""
    if status == _TOO_MUCH:
        return _busy(target)
    if status in _OURS or status >= _FAULT:
        return _does_not_serve(target, status)
    return Diagnostic(
        code="KI825",
        summary="The host refused the request",
        detail=f"{_named(target)} answered {status}: {message}",
        hint="The message is the host's; change the request accordingly.",
    )


def _busy(target: Target) -> Diagnostic:
    return Diagnostic(
        code="KI874",
        summary="The host has too much to do",
        detail=f"{_named(target)} answered 429: it takes no more requests for now, and nobody else could serve it.",
        hint="Ask again after as long as the answer says; an instance on this machine would serve meanwhile.",
    )


def _does_not_serve(target: Target, status: int) -> Diagnostic:
    why = _OURS.get(status, "it says that it cannot serve now")
    is_ours = status in _OURS
    mend = "Correct the host in models.yaml, or the secret that it names" if is_ours else "Ask again later"
    return Diagnostic(
        code="KI875",
        summary="The host does not serve",
        detail=f"{_named(target)} answered {status}: {why}, and nobody else could serve the request.",
        hint=f"{mend}; `kloros-infra route explain --model NAME` shows what else could serve.",
    )


def _named(target: Target) -> str:
    return f"'{target.name}' ({target.address}:{target.port})"
