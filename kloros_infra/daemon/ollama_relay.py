"""Carry a request of Ollama's dialect to a target, and say the answer in Ollama's shape."""

from __future__ import annotations

from collections.abc import Callable

from kloros_infra.daemon import http_problems, ollama, ollama_answers
from kloros_infra.daemon.exchange import ResponseHead
from kloros_infra.daemon.http_framing import NDJSON
from kloros_infra.daemon.json_body import parse_object
from kloros_infra.daemon.ollama_answers import AnswerShape, LineStream
from kloros_infra.daemon.openai import message_in
from kloros_infra.daemon.refused import headers_of, status_of
from kloros_infra.daemon.relay import RETRY_SOON, Client, ErrorWriter, Held, Means, Order, Relay
from kloros_infra.daemon.request_problems import shutting_down
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Refuse, Send
from kloros_infra.router.events import Outcome

NewShape = Callable[[Send], AnswerShape]


class OllamaRelay(Relay):
    """Says an answer line by line, or whole at its end."""

    def __init__(self, means: Means, client: Client, order: Order, *, new_shape: NewShape) -> None:
        self._new_shape = new_shape
        self._lines: LineStream | None = None
        self._parts: list[bytes] = []
        super().__init__(means, client, order)

    @property
    def errors(self) -> ErrorWriter:
        """Write errors in this dialect."""
        return ollama.not_found_writer(self._order.asked.query.model)

    def on_whole(self, content_type: bytes, body: bytes) -> None:
        self.on_head(ResponseHead(200, content_type, len(body), b""))
        self.on_body(body, is_last=True)

    def _open(self, head: ResponseHead) -> None:
        self._lines = None
        self._parts.clear()
        if head.status == 200 and self._order.is_stream:
            self._lines = LineStream(self._shape())
            self._client.send_head(200, NDJSON, None, extra=self._route_lines())

    def _pass(self, data: bytes) -> None:
        self._remember(data)
        if self._lines is None:
            self._parts.append(data)
            return
        lines = self._lines.feed(data, now=self._means.now())
        if lines:
            self._begin()
            self._client.send_body(lines, is_last=False)

    def _finish(self, data: bytes) -> None:
        if self._lines is None:
            self._parts.append(data)
            self._reply_whole(b"".join(self._parts))
            return
        lines = self._lines.feed(data, now=self._means.now())
        if self._lines.is_closed:
            self._report(self._head)
            self._client.send_body(lines, is_last=True)
            return
        if lines:
            self._begin()
            self._client.send_body(lines, is_last=False)
        self._problem = self._with_reason(http_problems.stream_incomplete(self._target()))
        self._fail(Outcome.BROKEN)

    def _last_words(self, problem: Diagnostic) -> bytes:
        return b"" if self._lines is None else self._lines.fail(problem.detail, problem.code)

    def _reply_held(self, held: Held, extra: bytes) -> None:
        self._reply_error(held.head.status, held.said, extra)

    def _reply_whole(self, said: bytes) -> None:
        head, target = self._head, self._target()
        status = 502 if head is None else head.status
        if status != 200:
            self._report(head)
            self._reply_error(status, said, b"" if head is None else self._extra(head))
            return
        answer = parse_object(said)
        if isinstance(answer, Diagnostic):
            self._problem = http_problems.not_http(target, "the answer is not JSON")
            self._fail(Outcome.BROKEN)
            return
        body = ollama_answers.whole_answer(answer, self._shape(), now=self._means.now())
        self._report(head)
        self._client.reply(200, body, extra=self._route_lines())

    def _reply_error(self, status: int, said: bytes, extra: bytes) -> None:
        problem = http_problems.upstream_refused(self._target(), status, message_in(said))
        self._client.reply(status, ollama.error_body(status, (problem,)), extra=extra)

    def _shape(self) -> AnswerShape:
        if self._send is None:
            raise LookupError("nothing has been sent")
        return self._new_shape(self._send)


class LoadedReply:
    """Answers a request without a prompt, by which Ollama's clients have a model loaded, once it is."""

    def __init__(self, means: Means, client: Client, order: Order, *, new_shape: NewShape) -> None:
        self._means = means
        self._client = client
        self._order = order
        self._new_shape = new_shape
        client.wait_for(self)
        means.desk.ask(order.asked, self)

    # The client's side.

    def cancel(self) -> None:
        """Stop: the client is gone."""
        self._means.desk.left(self._order.asked.id)

    def stop(self) -> None:
        """Answer that the router stops."""
        self.cancel()
        self._client.reply(503, ollama.error_body(503, (shutting_down(),)), extra=RETRY_SOON)

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    # The desk's side.

    def on_send(self, send: Send) -> None:
        """Answer that the model is loaded: the instance is ready."""
        self._means.desk.served(self._order.asked.id)
        self._client.reply(200, ollama_answers.loaded_answer(self._new_shape(send), now=self._means.now()))

    def on_continue(self, _send: Send) -> None:
        raise AssertionError("nothing has begun")

    def on_refused(self, refuse: Refuse) -> None:
        """Answer why it is not."""
        errors, status = ollama.not_found_writer(self._order.asked.query.model), status_of(refuse)
        self._client.reply(status, errors(status, (refuse.problem,)), extra=headers_of(refuse))
