"""What can go wrong with a question."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

_OVERDUE = frozenset({"KI811", "KI826", "KI870"})
"""What the router says when its clock finds the end of `timeout_s` before the client's own does."""

_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


class LlmError(Exception):
    """A question has no whole answer; `code` has an entry in docs/diagnostics.md."""

    def __init__(  # noqa: PLR0913 - what the router says of an error
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        is_temporary: bool = False,
        queue_position: int | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s
        """When it may be worth asking again."""
        self.is_temporary = is_temporary
        """Whether the same question may be answered later."""
        self.queue_position = queue_position
        """The length of the line that was full."""
        self.partial = partial
        """What had come of the answer when it broke off."""


class RefusedError(LlmError):
    """There is no answer, and it is known why: the router says so, or the question cannot be sent to it."""


class NoAnswerError(LlmError, TimeoutError):
    """There is no whole answer within `timeout_s`."""


class ClosedError(LlmError):
    """The client was closed while a question waited, or before it was asked."""


def refused(facts: Mapping[str, Any]) -> RefusedError | NoAnswerError:
    """Read an answer that says `success: false`; too late is too late, whoever notices it first."""
    error = facts.get("error")
    error = error if isinstance(error, dict) else {}
    metadata = facts.get("metadata")
    partial = metadata.get("partial") if isinstance(metadata, dict) else None
    code = str(error.get("code", "KI853"))
    return (NoAnswerError if code in _OVERDUE else RefusedError)(
        code,
        str(error.get("message", "The router refused, and does not say why.")),
        hint=str(error.get("hint", "")),
        retry_after_s=error.get("retry_after_s"),
        is_temporary=bool(error.get("is_temporary")),
        queue_position=error.get("queue_position"),
        partial=partial if isinstance(partial, str) else "",
    )


def no_answer(where: str, timeout_s: float, *, has_heard: bool, partial: str = "") -> NoAnswerError:
    """Tell a router that is slow from one that is not there."""
    if has_heard:
        return NoAnswerError(
            "KI850",
            f"No answer in time: the router at {where} is there, but had no answer within {timeout_s:g} s.",
            hint="A model may still be loading: allow more time, or ask again.",
            is_temporary=True,
            partial=partial,
        )
    return NoAnswerError(
        "KI851",
        f"No router: nobody answered at {where} within {timeout_s:g} s.",
        hint="Start it with `kloros-infra router`, or check KLOROS_LLM_DIRECT, KLR_CHEM_XSUB and KLR_CHEM_XPUB.",
        is_temporary=True,
    )


def bad_address(name: str, address: str) -> LlmError:
    """An address is none."""
    return LlmError(
        "KI857",
        f"Not an address: {name} is {address!r}.",
        hint="Write it as tcp://127.0.0.1:5555, or ipc:// with a path; KLOROS_LLM_DIRECT, KLR_CHEM_* and KLR_UMN_* "
        "name addresses, too.",
    )


def no_sockets(error: Exception) -> LlmError:
    """The operating system gives no sockets, or libzmq cannot connect them."""
    return LlmError(
        "KI858",
        f"No connection can be made: {(isinstance(error, OSError) and error.strerror) or error}.",
        hint="Look at the addresses, and at how many files the process may open (`ulimit -n`).",
        is_temporary=getattr(error, "errno", None) in _SHORTAGES,
    )


def too_long(size_bytes: int, most_bytes: int) -> RefusedError:
    """A question is longer than the router takes in."""
    return RefusedError(
        "KI855",
        f"The question is too long: {size_bytes} bytes as JSON, {most_bytes} is the most.",
        hint="Leave some of it out, or ask in parts.",
    )


def not_text(character: str) -> RefusedError:
    """A question has half of a character, which JSON of others cannot say."""
    return RefusedError(
        "KI856",
        f"The question is not text: it has {character!a}, half of a character.",
        hint="Decode what was read with errors='replace' rather than 'surrogateescape'.",
    )


def closed() -> ClosedError:
    """The client is closed."""
    return ClosedError("KI852", "The client is closed.", hint="Keep one client for as long as the service runs.")
