"""Say why a request of the bus has no answer, where neither model nor line is the reason: KI710 to KI719."""

from __future__ import annotations

from kloros_infra.diagnostics import Diagnostic


def answered_before() -> Diagnostic:
    """The id was answered, and the answer is not known any more."""
    return Diagnostic(
        code="KI710",
        summary="Answered before",
        detail="A request with this id and this question was answered before the router restarted, and the answer"
        " was too long to be kept.",
        hint="Ask again with a new request_id.",
    )


def cancelled() -> Diagnostic:
    """Whoever asked wants no answer any more."""
    return Diagnostic(
        code="KI711",
        summary="Cancelled",
        detail="llm.cancel named this request, or the client that asked is gone.",
        hint="Ask again with a new request_id.",
    )


def id_in_use(request_id: str) -> Diagnostic:
    """Another question under this id is being answered."""
    return Diagnostic(
        code="KI713",
        summary="Request id in use",
        detail=f"Another question with request_id {request_id} is being answered; one id cannot have two answers.",
        hint="Ask with a request_id that no other service uses: its name or a random text, and then a number.",
    )
