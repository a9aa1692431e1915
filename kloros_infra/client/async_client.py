"""A client for one event loop; it has neither threads nor tasks of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Self

import zmq

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.answer import Answer, answer_in
from kloros_infra.client.conversation import NEVER, Conversation
from kloros_infra.client.errors import LlmError, closed, no_sockets
from kloros_infra.client.messages import facts_in, facts_text
from kloros_infra.client.question import Question
from kloros_infra.client.sockets import Sockets
from kloros_infra.client.wishes import Prompt, request_facts

TIMEOUT_S = 60.0
SOONEST_S = 0.001


class _Future:
    """Implements `Sink` for someone who waits for the whole reply."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        self.reply: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()

    def on_delta(self, text: str) -> None: ...

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        if not self.reply.done():
            self.reply.set_result(facts)

    def on_error(self, error: LlmError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class AsyncStream:
    """The pieces of an answer as they come; after the last one `answer` has all of it.

    Leaving the `async with` block before the end cancels the request: the model stops.
    """

    def __init__(self, client: AsyncClient, request_id: str) -> None:
        self._client = client
        self._pieces: asyncio.Queue[str | Mapping[str, Any] | LlmError] = asyncio.Queue()
        self._is_over = False
        self.request_id = request_id
        self.answer: Answer | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while not self._is_over:
                piece = await self._pieces.get()
                if isinstance(piece, str):
                    yield piece
                    continue
                self._is_over = True
                if isinstance(piece, LlmError):
                    raise piece
                self.answer = answer_in(piece)
        finally:
            self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Want no more of it; fine after its end."""
        if not self._is_over:
            self._is_over = True
            self._client.cancel(self.request_id)

    # Implements `Sink`.

    def on_delta(self, text: str) -> None:
        """Take in the next piece."""
        self._pieces.put_nowait(text)

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        """Take in the whole reply."""
        self._pieces.put_nowait(facts)

    def on_error(self, error: LlmError) -> None:
        """Take in that there will be no reply."""
        self._pieces.put_nowait(error)


class AsyncClient:
    """Asks the router; keep one for as long as the service runs, and close it at the end.

    `source` is the service's name in models.yaml (`policies.clients`), which decides what it may ask for.
    """

    def __init__(self, addresses: Addresses | None = None, *, source: str | None = None) -> None:
        self._addresses = (addresses or Addresses().overridden()).checked()
        self._source = source
        self._conversation = Conversation(self._addresses)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: Sockets | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._is_looking = self._is_closed = False

    async def ask(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> Answer:
        """Ask and wait for the answer; raise RefusedError, or NoAnswerError when the time is over.

        `wishes` are further keys of `llm.request`: purpose, model, persona, language, max_tokens, temperature,
        constraints, metadata.
        """
        return answer_in(await self.request(prompt, timeout_s=timeout_s, **wishes))

    async def request(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> Mapping[str, Any]:
        """Ask and give the reply as it came, also where it is a refusal; raise NoAnswerError."""
        future, request_id = _Future(), self._conversation.new_id()
        self._begin(request_id, prompt, wishes, future, timeout_s)
        try:
            return await future.reply
        except asyncio.CancelledError:
            self.cancel(request_id)
            raise

    def stream(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> AsyncStream:
        """Ask for the answer in pieces; iterating raises as `ask` does. Called on the loop."""
        stream = AsyncStream(self, self._conversation.new_id())
        self._begin(stream.request_id, prompt, {**wishes, "stream": True}, stream, timeout_s)
        return stream

    def cancel(self, request_id: str) -> None:
        """Stop a request; whoever waits for it is not told."""
        self._conversation.cancel(request_id)
        self._go_on()

    async def close(self) -> None:
        """End; whoever still waits gets ClosedError."""
        self._is_closed = True
        self._conversation.close()
        self._go_on()
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Own steps.

    def _begin(
        self, request_id: str, prompt: Prompt, wishes: Mapping[str, Any], sink: _Future | AsyncStream, timeout_s: float
    ) -> None:
        if self._is_closed:
            raise closed()
        facts = facts_text(request_facts(request_id, prompt, wishes, timeout_s=timeout_s, source=self._source))
        self._open()
        now = time.monotonic()
        self._conversation.ask(Question(request_id, facts, sink, now=now, timeout_s=timeout_s), now)
        self._go_on()

    def _open(self) -> None:
        if self._sockets is None:
            self._loop = asyncio.get_running_loop()
            conversation = self._conversation
            try:
                self._sockets = Sockets(self._addresses, client_id=conversation.client_id, prefix=conversation.prefix)
            except (OSError, zmq.ZMQError) as error:
                raise no_sockets(error) from error
            self._read_from(self._sockets.direct)

    def _leave(self) -> None:
        """Give the sockets back."""
        sockets, self._sockets = self._sockets, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, NEVER
        if sockets is not None and self._loop is not None:
            for side in (sockets.direct, sockets.subscriber):
                if side is not None:
                    self._loop.remove_reader(side.fileno())
            sockets.close()

    def _read_from(self, side: zmq.Socket[bytes] | None) -> None:
        if side is not None and self._loop is not None:
            self._loop.add_reader(side.fileno(), self._look)

    def _go_on(self) -> None:
        """Send what is due, and arm the timer for what will be."""
        sockets, loop, conversation = self._sockets, self._loop, self._conversation
        if sockets is None or loop is None:
            return
        now = time.monotonic()
        outs = conversation.step(now)
        for out in outs:
            if not sockets.send(out):
                conversation.unsent(out, now)
        try:
            if conversation.wants_bus and sockets.join_bus():
                self._read_from(sockets.subscriber)
        except (OSError, zmq.ZMQError) as error:
            self._begin_anew(error)
            return
        if outs and not self._is_looking:
            # libzmq's descriptor tells of a change once, and sending takes the word as receiving does.
            self._is_looking = True
            loop.call_soon(self._look)
        self._wake_at(conversation.next_at(), now)

    def _begin_anew(self, error: Exception) -> None:
        """End all questions where the bus cannot be joined; the next one is asked with other sockets."""
        self._conversation.close(partial(no_sockets, error))
        self._leave()
        self._conversation = Conversation(self._addresses)

    def _look(self) -> None:
        """Take in what has come."""
        self._is_looking = False
        if self._sockets is None:
            return
        now = time.monotonic()
        for link, payload in self._sockets.received():
            self._conversation.heard(link, facts_in(payload), now)
        self._go_on()

    def _wake_at(self, at: float, now: float) -> None:
        if self._loop is None or at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - now, SOONEST_S), self._wake)

    def _wake(self) -> None:
        self._timer, self._timer_at = None, NEVER
        self._go_on()
