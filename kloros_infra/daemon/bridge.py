"""The HTTP bridge's addresses: what each path answers, in OpenAI's and Ollama's dialect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from kloros_infra import __version__
from kloros_infra.daemon import http_problems, ollama, ollama_listing, openai
from kloros_infra.daemon.askers import Askers
from kloros_infra.daemon.asking import Asking
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_framing import TEXT, Request
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.ollama import OllamaChat, OllamaGenerate, OllamaShow
from kloros_infra.daemon.ollama_answers import AnswerShape
from kloros_infra.daemon.ollama_relay import LoadedReply, OllamaRelay
from kloros_infra.daemon.refused import headers_of, status_of
from kloros_infra.daemon.relay import Client, ErrorWriter, Means, Order, Relay
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.router.candidates import Candidates
from kloros_infra.router.effects import Refuse, Send
from kloros_infra.router.query import Query, Refused

Handler = Callable[[Request, Client], None]

MODEL_PREFIX = b"/v1/models/"
PROPERTIES_TIMEOUT_S = 2.0
MOST_QUERIES = 256
"""So many combinations of names are remembered, that one need not be made for every request."""
ILL = ("unhealthy", "failed")
"""What is wrong with an instance; one that is stopped is started when it is asked for."""

# OpenAI's paths, and Jina's for reranking, which are llama-server's too.
FORWARDED = {
    "/v1/chat/completions": ModelKind.CHAT,
    "/v1/completions": ModelKind.CHAT,
    "/v1/embeddings": ModelKind.EMBEDDING,
    "/v1/rerank": ModelKind.RERANK,
    "/rerank": ModelKind.RERANK,
}
CORS_HEADERS = "Access-Control-Allow-Headers: Authorization, Content-Type, X-Kloros-Purpose\r\n"


class Bridge:
    """Answers requests that are framed and allowed; everything it sends goes through the client."""

    def __init__(self, desk: Desk, upstreams: UpstreamPool, now: Callable[[], float] = time.time) -> None:
        self._desk = desk
        self._means = Means(desk, upstreams, now, {})
        self._askers = Askers(desk, upstreams.credentials)
        self._lookups: set[asyncio.Task[None]] = set()
        self._routes = self._handlers()

    def answer(self, request: Request, client: Client) -> None:
        """Answer one request, now or when its upstream does."""
        handlers = self._routes.get(request.path) or self._model_handlers(request.path)
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is not None:
            handler(request, client)
        elif not handlers:
            problem = http_problems.unknown_path(shown_path(request.path))
            client.reply(404, error_writer(request.path)(404, (problem,)))
        else:
            self._answer_method(request, client, handlers)

    async def close(self) -> None:
        """Stop what is still being looked up."""
        for task in tuple(self._lookups):
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)

    def _asking(self, request: Request) -> Asking:
        return self._askers.of(request.authorization) if request.authorization else self._askers.anyone

    def _handlers(self) -> dict[bytes, dict[str, Handler]]:
        forwarded = {path.encode(): {"POST": self._forwarder(path, kind)} for path, kind in FORWARDED.items()}
        return forwarded | {
            b"/": {"GET": self._get_root},
            b"/health": {"GET": self._get_health},
            b"/v1/models": {"GET": self._get_models},
            b"/api/tags": {"GET": self._get_tags},
            b"/api/ps": {"GET": self._get_ps},
            b"/api/version": {"GET": self._get_version},
            b"/api/show": {"POST": self._post_show},
            b"/api/chat": {"POST": self._post_chat},
            b"/api/generate": {"POST": self._post_generate},
        }

    def _model_handlers(self, path: bytes) -> Mapping[str, Handler]:
        if not path.startswith(MODEL_PREFIX):
            return {}
        return {"GET": self._get_model}

    # OpenAI's dialect.

    def _forwarder(self, path: str, kind: ModelKind) -> Handler:
        raw_path = path.encode()
        queries: dict[tuple[ModelKind, str | None, str | None], Query] = {}
        askers, means = self._askers, self._means

        def forward(request: Request, client: Client) -> None:
            body = parse_object(request.body)
            problems = (body,) if isinstance(body, Diagnostic) else openai.check(path, body)
            if problems or isinstance(body, Diagnostic):
                client.reply(400, openai.error_body(400, problems))
                return
            needed = ModelKind.VISION if kind is ModelKind.CHAT and openai.has_images(body) else kind
            named = needed, openai.purpose_asked(body, request.purpose), openai.model_asked(body)
            query = queries.get(named)
            if query is None:
                if len(queries) >= MOST_QUERIES:
                    queries.clear()
                query = queries[named] = Query(*named)
            asking = askers.of(request.authorization) if request.authorization else askers.anyone
            asked = asking.asked(query, body, len(request.body))
            Relay(means, client, Order(raw_path, asked, body, request.body, body.get("stream") is True))

        return forward

    def _get_models(self, _: Request, client: Client) -> None:
        client.reply(200, dump(openai.models_body(self._desk.table, self._desk.profile)))

    def _get_model(self, request: Request, client: Client) -> None:
        name = unquote_to_bytes(request.path.removeprefix(MODEL_PREFIX)).decode("utf-8", "replace")
        entry = openai.model_entry(self._desk.table, self._desk.profile, name)
        if entry is not None:
            client.reply(200, dump(entry))
            return
        found = self._desk.find(Query(model=name))
        problem = found.problem if isinstance(found, Refused) else http_problems.unknown_path(name)
        client.reply(404, openai.error_body(404, (problem,)))

    # Ollama's dialect.

    def _post_chat(self, request: Request, client: Client) -> None:
        asked = _read(OllamaChat, request, client)
        if asked is not None:
            self._relay_ollama(asked, request, client)

    def _post_generate(self, request: Request, client: Client) -> None:
        asked = _read(OllamaGenerate, request, client)
        if asked is not None:
            self._relay_ollama(asked, request, client)

    def _relay_ollama(self, asked: OllamaChat | OllamaGenerate, request: Request, client: Client) -> None:
        started_at, is_chat = self._means.now(), isinstance(asked, OllamaChat)
        kind = ModelKind.VISION if asked.has_images else ModelKind.CHAT
        query = Query(kind, purpose=openai.purpose_asked({}, request.purpose), model=asked.model_asked)
        body = ollama.openai_body(asked)
        path = b"/v1/completions" if asked.is_raw else b"/v1/chat/completions"
        wish = self._asking(request).asked(query, body, len(request.body))
        order = Order(path, wish, body, None, asked.is_stream)

        def new_shape(send: Send) -> AnswerShape:
            return AnswerShape(asked.model_asked or send.model.name, is_chat=is_chat, started_at=started_at)

        taker = OllamaRelay if asked.has_prompt else LoadedReply
        taker(self._means, client, order, new_shape=new_shape)

    def _post_show(self, request: Request, client: Client) -> None:
        asked = _read(OllamaShow, request, client)
        if asked is None:
            return
        found = self._desk.find(Query(None, model=asked.model_asked))
        if isinstance(found, Refused):
            _reply_refused(found, client, ollama.not_found_writer(asked.model_asked))
            return
        task = asyncio.get_running_loop().create_task(self._show(found, client))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)
        client.wait_for(_Lookup(task))

    async def _show(self, found: Candidates, client: Client) -> None:
        first = found.choices[0]
        local = next((target for target in first.targets if target.is_local), None)
        properties: Mapping[str, Any] = {}
        if local is not None:
            properties = await self._means.upstreams.properties(local, timeout_s=PROPERTIES_TIMEOUT_S)
        context_tokens = first.model.context_under(self._desk.profile)
        body = ollama_listing.show_body(first.model, found.persona, properties, context_tokens=context_tokens)
        client.reply(200, dump(body))

    def _get_tags(self, _: Request, client: Client) -> None:
        client.reply(200, dump(ollama_listing.tags_body(self._desk.table)))

    def _get_ps(self, _: Request, client: Client) -> None:
        desk = self._desk
        body = ollama_listing.ps_body(desk.table, desk.profile, _healthy_ids(desk.health()))
        client.reply(200, dump(body))

    # Neither dialect's.

    def _get_root(self, _: Request, client: Client) -> None:
        client.reply(200, b"Ollama is running", content_type=TEXT)

    def _get_version(self, _: Request, client: Client) -> None:
        client.reply(200, dump({"version": __version__}))

    def _get_health(self, _: Request, client: Client) -> None:
        health = self._desk.health()
        is_ill = any(runtime["status"] in ILL for runtime in health["runtimes"])
        client.reply(200, dump({"status": "degraded" if is_ill else "ok", **health}))

    def _answer_method(self, request: Request, client: Client, handlers: Mapping[str, Handler]) -> None:
        """Answer a method that the path does not have: 405, or the options that a browser asks for."""
        methods = sorted({*handlers, "OPTIONS"} | ({"HEAD"} if "GET" in handlers else set()))
        allowed = ", ".join(methods)
        allow = f"Allow: {allowed}\r\n".encode()
        if request.method == "OPTIONS":
            grants = f"Access-Control-Allow-Methods: {allowed}\r\n{CORS_HEADERS}" if request.origin else ""
            client.reply(200, b"", content_type=b"", extra=allow + grants.encode())
            return
        problem = http_problems.wrong_method(request.method, shown_path(request.path), allowed)
        client.reply(405, error_writer(request.path)(405, (problem,)), extra=allow)


class _Lookup:
    """A short wait that a client may walk away from."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()

    def stop(self) -> None:
        self._task.cancel()

    def pause(self) -> None: ...
    def resume(self) -> None: ...


def error_writer(path: bytes) -> ErrorWriter:
    """Choose the dialect in which a path's errors are written."""
    return ollama.error_body if path.startswith(b"/api/") else openai.error_body


def shown_path(path: bytes) -> str:
    """Make a path fit for a message."""
    return path[:200].decode("ascii", "backslashreplace")


AnyRequest = TypeVar("AnyRequest", OllamaChat, OllamaGenerate, OllamaShow)


def _read(shape: type[AnyRequest], request: Request, client: Client) -> AnyRequest | None:
    """Read an Ollama request; one that is wrong is answered here."""
    body = parse_object(request.body)
    asked: AnyRequest | Problems = (body,) if isinstance(body, Diagnostic) else ollama.read(shape, body)
    if isinstance(asked, tuple):
        client.reply(400, ollama.error_body(400, asked))
        return None
    return asked


def _reply_refused(refused: Refused, client: Client, errors: ErrorWriter) -> None:
    refuse = Refuse("", refused.problem, refused.is_temporary)
    status = status_of(refuse)
    client.reply(status, errors(status, (refused.problem,)), extra=headers_of(refuse))


def _healthy_ids(health: Mapping[str, Any]) -> set[str]:
    return {runtime["model_id"] for runtime in health["runtimes"] if runtime["status"] == "healthy"}
