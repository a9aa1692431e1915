"""A client for threads: each call waits for its answer, and any number of threads may call.

Sockets belong to one thread (zmq_socket(7)), so one in the background does all sending and receiving.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from queue import Empty, SimpleQueue
from typing import Any, Self

import zmq

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.answer import Answer, answer_in
from kloros_infra.client.conversation import Conversation
from kloros_infra.client.errors import LlmError, NoAnswerError, closed, no_sockets
from kloros_infra.client.messages import facts_in, facts_text
from kloros_infra.client.question import Question
from kloros_infra.client.sockets import Sockets
from kloros_infra.client.wishes import Prompt, request_facts

TIMEOUT_S = 60.0
NEVER = float("inf")
GRACE_S = 1.0
"""So much later than the thread in the background, which knows more, whoever waits gives up by itself."""


class _Wait:
    """Implements `Sink` for a thread that waits for the whole reply."""

    __slots__ = ("_is_there", "error", "facts")

    def __init__(self) -> None:
        self.facts: Mapping[str, Any] = {}
        self.error: LlmError | None = None
        self._is_there = threading.Lock()
        self._is_there.acquire()

    def wait(self, question: Question, late: Callable[[float], NoAnswerError]) -> Mapping[str, Any]:
        """Give the reply; raise what went wrong."""
        if not self._is_there.acquire(timeout=_patience_s(question.deadline)):
            raise late(question.timeout_s)
        if self.error is not None:
            raise self.error
        return self.facts

    def on_delta(self, text: str) -> None: ...

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self._is_there.release()

    def on_error(self, error: LlmError) -> None:
        self.error = error
        self._is_there.release()


def _patience_s(deadline: float) -> float:
    return min(max(0.0, deadline + GRACE_S - time.monotonic()), threading.TIMEOUT_MAX)


class Stream:
    """The pieces of an answer as they come; after the last one `answer` has all of it.

    Leaving the loop, or the `with` block, before the end cancels the request: the model stops.
    """

    def __init__(
        self, client: Client, request_id: str, *, timeout_s: float, late: Callable[[float], NoAnswerError]
    ) -> None:
        self._client = client
        self._timeout_s, self._late = timeout_s, late
        self._deadline = time.monotonic() + timeout_s
        self._pieces: SimpleQueue[str | Mapping[str, Any] | LlmError] = SimpleQueue()
        self._is_over = False
        self.request_id = request_id
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            while not self._is_over:
                piece = self._next()
                if isinstance(piece, str):
                    yield piece
                    continue
                self._is_over = True
                if isinstance(piece, LlmError):
                    raise piece
                self.answer = answer_in(piece)
        finally:
            self.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Want no more of it; fine after its end."""
        if not self._is_over:
            self._is_over = True
            self._client.cancel(self.request_id)

    def _next(self) -> str | Mapping[str, Any] | LlmError:
        try:
            return self._pieces.get(timeout=_patience_s(self._deadline))
        except Empty:
            self.cancel()
            return self._late(self._timeout_s)

    # Implements `Sink`.

    def on_delta(self, text: str) -> None:
        """Take in the next piece."""
        self._pieces.put(text)

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        """Take in the whole reply."""
        self._pieces.put(facts)

    def on_error(self, error: LlmError) -> None:
        """Take in that there will be no reply."""
        self._pieces.put(error)


class Client:
    """Asks the router; keep one for as long as the service runs, and close it at the end.

    `source` is the service's name in models.yaml (`policies.clients`), which decides what it may ask for.
    """

    def __init__(self, addresses: Addresses | None = None, *, source: str | None = None) -> None:
        self._addresses = (addresses or Addresses().overridden()).checked()
        self._source = source
        self._lock = threading.Lock()
        self._is_closed = False
        self._pid = 0
        self._worker: _Worker | None = None

    def ask(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> Answer:
        """Ask and wait for the answer; raise RefusedError, or NoAnswerError when the time is over.

        `wishes` are further keys of `llm.request`: purpose, model, persona, language, max_tokens, temperature,
        constraints, metadata.
        """
        return answer_in(self.request(prompt, timeout_s=timeout_s, **wishes))

    def request(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> Mapping[str, Any]:
        """Ask and give the reply as it came, also where it is a refusal; raise NoAnswerError."""
        wait, worker = _Wait(), self._running()
        question = self._question(worker.new_id(), prompt, wishes, wait, timeout_s=timeout_s)
        worker.ask(question)
        try:
            return wait.wait(question, worker.conversation.late)
        except BaseException:
            # A key press in the terminal, above all: nobody waits any more.
            self.cancel(question.request_id)
            raise

    def stream(self, prompt: Prompt, *, timeout_s: float = TIMEOUT_S, **wishes: Any) -> Stream:
        """Ask for the answer in pieces; iterating raises as `ask` does."""
        worker = self._running()
        stream = Stream(self, worker.new_id(), timeout_s=timeout_s, late=worker.conversation.late)
        wishes |= {"stream": True}
        worker.ask(self._question(stream.request_id, prompt, wishes, stream, timeout_s=timeout_s))
        return stream

    def cancel(self, request_id: str) -> None:
        """Stop a request; whoever waits for it is not told."""
        worker = self._worker
        if worker is not None and worker.is_alive():
            with suppress(LlmError):
                worker.do(lambda: worker.conversation.cancel(request_id))

    def close(self) -> None:
        """End; whoever still waits gets ClosedError."""
        with self._lock:
            worker, self._worker, self._is_closed = self._worker, None, True
        if worker is not None and self._pid == os.getpid():
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _question(
        self, request_id: str, prompt: Prompt, wishes: Mapping[str, Any], sink: _Wait | Stream, *, timeout_s: float
    ) -> Question:
        facts = facts_text(request_facts(request_id, prompt, wishes, timeout_s=timeout_s, source=self._source))
        return Question(request_id, facts, sink, now=time.monotonic(), timeout_s=timeout_s)

    def _running(self) -> _Worker:
        """Give the thread in the background; a process that was forked has none of its own yet."""
        worker = self._worker
        if worker is not None and self._pid == os.getpid() and not worker.is_over:
            return worker
        with self._lock:
            if self._is_closed:
                raise closed()
            worker, is_ours = self._worker, self._pid == os.getpid()
            if worker is not None and is_ours:
                if not worker.is_over:
                    return worker
                self._worker = None
                worker.stop()
            self._pid, self._worker = os.getpid(), _worker_at(self._addresses)
            return self._worker


def _worker_at(addresses: Addresses) -> _Worker:
    try:
        return _Worker(addresses)
    except OSError as error:
        raise no_sockets(error) from error


class _Worker:
    """The thread that has the sockets."""

    def __init__(self, addresses: Addresses) -> None:
        self.conversation = Conversation(addresses)
        self._addresses = addresses
        self._orders: deque[Callable[[], object]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._is_awake = self._is_stopping = False
        self._why: Callable[[], LlmError] = closed
        self._ids, self._orders_lock = threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kloros-llm", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Say whether it takes no more orders: it was stopped, or has failed."""
        return self._is_stopping

    def is_alive(self) -> bool:
        """Say whether it still works; in a forked process it does not."""
        return self._thread.is_alive()

    def new_id(self) -> str:
        """Give an id for a question."""
        with self._ids:
            return self.conversation.new_id()

    def ask(self, question: Question) -> None:
        """Have a question asked."""
        self.do(lambda: self.conversation.ask(question, time.monotonic()))

    def do(self, order: Callable[[], object]) -> None:
        """Have something done on the thread."""
        with self._orders_lock:
            if self._is_stopping:
                raise self._why()
            self._orders.append(order)
        if not self._is_awake:
            self._is_awake = True
            # Full is awake enough; closed, once nobody reads any more.
            with suppress(OSError):
                self._wake.send(b"\0")

    def stop(self) -> None:
        """End the thread, and tell those who wait."""
        with suppress(LlmError):
            self.do(self._end)
        self._thread.join()
        self._wake.close()
        self._woken.close()

    def _end(self) -> None:
        self._is_stopping = True

    def _run(self) -> None:
        sockets: Sockets | None = None
        try:
            sockets = Sockets(self._addresses, client_id=self.conversation.client_id, prefix=self.conversation.prefix)
            self._serve(sockets)
        except (OSError, zmq.ZMQError) as error:
            self._why = partial(no_sockets, error)
        finally:
            self._finish()
            if sockets is not None:
                self._send(sockets)
                sockets.close()

    def _serve(self, sockets: Sockets) -> None:
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        if sockets.direct is not None:
            poller.register(sockets.direct, zmq.POLLIN)
        while not self._is_stopping:
            self._turn(sockets, poller)

    def _finish(self) -> None:
        """Take no more orders, and tell all who wait, also those whose order was not heard yet."""
        with self._orders_lock:
            self._is_stopping = True
        while self._orders:
            self._orders.popleft()()
        self.conversation.close(self._why)

    def _turn(self, sockets: Sockets, poller: zmq.Poller) -> None:
        """Do what was ordered, send what is due, wait, and take in what has come."""
        conversation = self.conversation
        while self._orders:
            self._orders.popleft()()
        if self._is_stopping:
            return
        self._send(sockets)
        if conversation.wants_bus and sockets.join_bus() and sockets.subscriber is not None:
            poller.register(sockets.subscriber, zmq.POLLIN)
            self._send(sockets)
        wait_s = conversation.next_at() - time.monotonic()
        poller.poll(None if wait_s == NEVER else max(0, ceil(wait_s * 1000)))
        self._calm_down()
        now = time.monotonic()
        for link, payload in sockets.received():
            conversation.heard(link, facts_in(payload), now)

    def _calm_down(self) -> None:
        if self._is_awake:
            # In this order: an order that comes in between wakes us once too often rather than once too little.
            with suppress(BlockingIOError):
                self._woken.recv(64)
            self._is_awake = False

    def _send(self, sockets: Sockets) -> None:
        now = time.monotonic()
        for out in self.conversation.step(now):
            if not sockets.send(out):
                self.conversation.unsent(out, now)
