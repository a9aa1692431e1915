"""Say what is wrong with a request or with the upstream that should answer it: KI820 to KI849."""

from __future__ import annotations

from kloros_infra.daemon.host_problems import host_refused
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Target

CANNOT_CONNECT = "KI820"
CUT_OFF, WITHOUT_END = "KI823", "KI827"
BROKEN_OFF = (CUT_OFF, WITHOUT_END)
ASK_STATUS = "`kloros-infra status` shows the unit; its log says why."
ASK_HOST = "It is a remote host of models.yaml: see there whether it runs."


def cannot_connect(target: Target, reason: str) -> Diagnostic:
    """The instance's port does not accept connections."""
    return Diagnostic(
        code=CANNOT_CONNECT,
        summary=f"Cannot connect to the {_kind(target)}",
        detail=f"{_named(target)} does not accept connections: {reason}.",
        hint=_where_to_look(target),
    )


def no_first_byte(target: Target, waited_s: float) -> Diagnostic:
    """The instance took the request and has said nothing since."""
    return Diagnostic(
        code="KI821",
        summary="No answer in time",
        detail=f"{_named(target)} has sent nothing {waited_s:g} s after the request.",
        hint=f"It may be reading a very long prompt, or hang; a shorter prompt may help. {_where_to_look(target)}",
    )


def answer_stalled(target: Target, waited_s: float) -> Diagnostic:
    """The instance stopped in the middle of its answer."""
    return Diagnostic(
        code="KI822",
        summary="The answer stalled",
        detail=f"{_named(target)} has sent nothing for {waited_s:g} s in the middle of its answer.",
        hint=_where_to_look(target),
    )


def answer_cut_off(target: Target) -> Diagnostic:
    """The connection ended before the answer did."""
    return Diagnostic(
        code=CUT_OFF,
        summary="The answer broke off",
        detail=f"{_named(target)} closed the connection before its answer was complete.",
        hint=f"It most likely died. {_where_to_look(target)}",
    )


def with_reason(problem: Diagnostic, target: Target, why_stopped: str | None) -> Diagnostic:
    """Say of an answer that broke off why its instance was stopped, where it was."""
    if why_stopped is None or problem.code not in BROKEN_OFF:
        return problem
    return Diagnostic(
        code=problem.code,
        summary=problem.summary,
        detail=f"{_named(target)} was stopped before its answer was complete: {why_stopped}.",
        hint="Ask again. Where a purpose has `continue_elsewhere`, another instance goes on with the answer.",
    )


def not_http(target: Target, reason: str) -> Diagnostic:
    """What came back cannot be told apart into answers."""
    return Diagnostic(
        code="KI824",
        summary="The answer is not valid HTTP",
        detail=f"{_named(target)} sent something that is not one HTTP response: {reason}.",
        hint=f"Check that nothing but {'llama-server' if target.is_local else 'the host meant'} listens on that port.",
    )


def upstream_refused(target: Target, status: int, message: str) -> Diagnostic:
    """The instance answered with an error of its own; one of a host is told in our words."""
    if not target.is_local:
        return host_refused(target, status, message)
    return Diagnostic(
        code="KI825",
        summary="The instance refused the request",
        detail=f"{_named(target)} answered {status}: {message}",
        hint="The message is llama-server's; change the request accordingly, or see the unit's log.",
    )


def deadline_passed(target: Target, deadline_s: float) -> Diagnostic:
    """The requester's own deadline came before the end of the answer."""
    return Diagnostic(
        code="KI826",
        summary="Not finished in time",
        detail=f"{_named(target)} was still answering after the {deadline_s:g} s that the request allows.",
        hint="Allow more time, ask for fewer tokens, or ask for a faster model.",
    )


def not_alive(target: Target, waited_s: float) -> Diagnostic:
    """The instance is silent, and does not answer its health check either."""
    return Diagnostic(
        code="KI828",
        summary=f"The {_kind(target)} hangs",
        detail=f"{_named(target)} has sent nothing for {waited_s:.1f} s and does not answer its health check either.",
        hint=f"The router asks another where there is one. {_where_to_look(target)}",
    )


def no_credential(target: Target, reason: str) -> Diagnostic:
    """The bearer credential of a remote host cannot be read."""
    return Diagnostic(
        code="KI829",
        summary="Credential cannot be read",
        detail=f"{_named(target)} wants the credential '{target.credential}': {reason}.",
        hint="Put the secret where the unit's LoadCredential= looks for it, and restart kloros-router.service.",
    )


def stream_incomplete(target: Target) -> Diagnostic:
    """A stream ended as HTTP, but without its last event."""
    return Diagnostic(
        code=WITHOUT_END,
        summary="The stream has no end",
        detail=f"{_named(target)} ended its stream without the event that closes it.",
        hint=_where_to_look(target),
    )


def malformed(reason: str) -> Diagnostic:
    """The bytes are not an HTTP/1.1 request."""
    return Diagnostic(
        code="KI830",
        summary="Malformed request",
        detail=f"This is not an HTTP/1.1 request that can be answered: {reason}.",
        hint="Send HTTP/1.1 with one Host header and one Content-Length or `Transfer-Encoding: chunked`.",
    )


def too_large(what: str, limit: str) -> Diagnostic:
    """A part of the request exceeds its limit."""
    return Diagnostic(
        code="KI831",
        summary="Request too large",
        detail=f"The {what} exceeds the limit of {limit}.",
        hint="Send less; for images, scale them down first.",
    )


def too_slow(what: str, limit_s: float) -> Diagnostic:
    """The client did not finish sending in time."""
    return Diagnostic(
        code="KI832",
        summary="Request too slow",
        detail=f"The request's {what} was not complete after {limit_s:g} s.",
        hint="Send the request in one go.",
    )


def foreign_host(host: str) -> Diagnostic:
    """The Host header does not name this machine's loopback (DNS rebinding)."""
    return Diagnostic(
        code="KI833",
        summary="Host not allowed",
        detail=f"The bridge answers on loopback only; the request was sent to host '{host}'.",
        hint="Use http://127.0.0.1 or http://localhost.",
    )


def foreign_origin(origin: str) -> Diagnostic:
    """A web page from elsewhere asks."""
    return Diagnostic(
        code="KI834",
        summary="Origin not allowed",
        detail=f"A page from '{origin}' asks; only pages served from loopback may.",
        hint="Serve the page from http://localhost, or call the bridge from a program.",
    )


def unknown_path(path: str) -> Diagnostic:
    """There is no such address."""
    return Diagnostic(
        code="KI835",
        summary="Unknown path",
        detail=f"There is nothing at '{path}'.",
        hint="OpenAI's API is below /v1, Ollama's below /api; docs/http.md lists both.",
    )


def wrong_method(method: str, path: str, allowed: str) -> Diagnostic:
    """The address exists, the method does not fit it."""
    return Diagnostic(
        code="KI836",
        summary="Wrong method",
        detail=f"'{path}' does not take {method}.",
        hint=f"Use {allowed}.",
    )


def not_json(reason: str) -> Diagnostic:
    """The body is not one strict JSON object."""
    return Diagnostic(
        code="KI837",
        summary="Body is not JSON",
        detail=f"The body must be one JSON object: {reason}.",
        hint="Send UTF-8 JSON without repeated keys, NaN, Infinity or lone surrogates.",
    )


def bad_field(where: str, reason: str) -> Diagnostic:
    """A field is missing or has a value that cannot be."""
    return Diagnostic(
        code="KI838",
        summary="Bad field",
        detail=f"'{where}': {reason}.",
        hint="Correct the field; the API's own reference describes it.",
        address=where,
    )


def refused_field(name: str, reason: str) -> Diagnostic:
    """A field that this bridge does not let through."""
    return Diagnostic(
        code="KI839",
        summary="Field not accepted",
        detail=f"'{name}' is not accepted: {reason}.",
        hint="Leave it out.",
        address=name,
    )


def no_key(*, is_sent: bool) -> Diagnostic:
    """The bridge wants a key, and none came that it knows."""
    return Diagnostic(
        code="KI866",
        summary="Key missing or wrong",
        detail="The key that was sent is none of this router's." if is_sent else "This router wants a key.",
        hint="Send `Authorization: Bearer KEY` with a key of the credential that `bridge.credential` names.",
    )


def keys_unread(credential: str, reason: str) -> Diagnostic:
    """The bridge wants a key and cannot know which are right."""
    return Diagnostic(
        code="KI867",
        summary="Keys cannot be read",
        detail=f"The credential '{credential}' with the keys of HTTP clients cannot be read: {reason}.",
        hint="Put the keys where the unit's LoadCredential= looks for them, and restart kloros-router.service.",
    )


def not_loopback(host: str) -> Diagnostic:
    """The bridge has no authentication, so it stays on this machine."""
    return Diagnostic(
        code="KI840",
        summary="Not a loopback address",
        detail=f"The bridge is to listen on '{host}', which other machines can reach.",
        hint="Use 127.0.0.1 or ::1 in bridge.host.",
        address="bridge.host",
    )


def cannot_listen(host: str, port: int, reason: str) -> Diagnostic:
    """The port is taken, or may not be bound."""
    return Diagnostic(
        code="KI841",
        summary="Cannot listen",
        detail=f"The bridge cannot listen on {host} port {port}: {reason}.",
        hint="Stop what holds the port (Ollama listens on 11434), or give bridge.ports others.",
        address="bridge.ports",
    )


def _kind(target: Target) -> str:
    return "instance" if target.is_local else "host"


def _where_to_look(target: Target) -> str:
    return ASK_STATUS if target.is_local else ASK_HOST


def _named(target: Target) -> str:
    return f"'{target.name}' ({target.address}:{target.port})"
