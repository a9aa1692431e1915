"""Ask the router from any Python service: a question is one line, and none is lost.

    from kloros_infra.client import Client

    with Client() as llm:
        print(llm.ask("What is a binary search?", purpose="code_understanding"))

Needs pyzmq and the standard library alone, and imports nothing else of this project. `Client` may be used by any number
of threads; `AsyncClient` is for one event loop. See docs/chembus.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.answer import Answer
from kloros_infra.client.errors import ClosedError, LlmError, NoAnswerError, RefusedError

if TYPE_CHECKING:
    from kloros_infra.client.async_client import AsyncClient, AsyncStream
    from kloros_infra.client.sync_client import Client, Stream

__all__ = [
    "Addresses",
    "Answer",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ClosedError",
    "LlmError",
    "NoAnswerError",
    "RefusedError",
    "Stream",
]

_WHERE = {
    "AsyncClient": "async_client",
    "AsyncStream": "async_client",
    "Client": "sync_client",
    "Stream": "sync_client",
}


def __getattr__(name: str) -> Any:
    """Import a client when it is asked for: most services use one of the two, and asyncio is not small."""
    from importlib import import_module  # noqa: PLC0415 - see above

    if name in _WHERE:
        return getattr(import_module(f"kloros_infra.client.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
