"""Take apart the event streams that llama-server sends (WHATWG HTML, section 9.2); no I/O."""

from __future__ import annotations

DONE = b"[DONE]"


class EventReader:
    """Turn bytes, cut anywhere, into the `data` of whole events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Give the data of the events that are complete now; comments and other fields are dropped."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._take(line.removesuffix(b"\r"), events)
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))


def error_event(body: bytes) -> bytes:
    """Write an error as an event; OpenAI's clients look for `error` in the data."""
    return b"event: error\ndata: %b\n\n" % body
