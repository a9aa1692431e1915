"""The HTTP bridge's addresses: what each path answers, in OpenAI's and Ollama's dialect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from kloros_infra import __version__
from kloros_infra.daemon import http_problems, ollama, ollama_answers, ollama_listing, openai
from kloros_infra.daemon.http_framing import TEXT, Request
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.ollama import OllamaChat, OllamaGenerate, OllamaShow
from kloros_infra.daemon.ollama_answers import AnswerShape
from kloros_infra.daemon.ports import Directory
from kloros_infra.daemon.relay import RETRY_SOON, Client, ErrorWriter, Means, OllamaRelay, Order, Relay
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.router.select import Query, Refused, Selected

Handler = Callable[[Request, Client], None]

MODEL_PREFIX = b"/v1/models/"
PROPERTIES_TIMEOUT_S = 2.0
# How a refusal to route looks in HTTP (router/refusals.py); anything else is the request's fault.
_REFUSAL_STATUS = {"KI801": 404, "KI802": 404, "KI803": 404, "KI806": 503, "KI809": 503}


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

    def __init__(self, directory: Directory, upstreams: UpstreamPool, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._means = Means(directory, upstreams, now, {})
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

        def forward(request: Request, client: Client) -> None:
            body = parse_object(request.body)
            problems = (body,) if isinstance(body, Diagnostic) else openai.check(path, body)
            if problems or isinstance(body, Diagnostic):
                client.reply(400, openai.error_body(400, problems))
                return
            needed = ModelKind.VISION if kind is ModelKind.CHAT and openai.has_images(body) else kind
            asked = Query(needed, openai.purpose_asked(body, request.purpose), openai.model_asked(body))
            decision = self._directory.choose(asked)
            if isinstance(decision, Refused):
                _reply_refused(decision, client, openai.error_body)
                return
            order = Order(raw_path, asked, body, request.body, body.get("stream") is True)
            Relay(self._means, client, order, decision)

        return forward

    def _get_models(self, _: Request, client: Client) -> None:
        client.reply(200, dump(openai.models_body(self._directory.table, self._directory.profile)))

    def _get_model(self, request: Request, client: Client) -> None:
        name = unquote_to_bytes(request.path.removeprefix(MODEL_PREFIX)).decode("utf-8", "replace")
        entry = openai.model_entry(self._directory.table, self._directory.profile, name)
        if entry is not None:
            client.reply(200, dump(entry))
            return
        decision = self._directory.choose(Query(model=name))
        problem = decision.problem if isinstance(decision, Refused) else http_problems.unknown_path(name)
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
        now = self._means.now()
        kind = ModelKind.VISION if asked.has_images else ModelKind.CHAT
        query = Query(kind, purpose=openai.purpose_asked({}, request.purpose), model=asked.model_asked)
        decision = self._directory.choose(query)
        if isinstance(decision, Refused):
            _reply_refused(decision, client, ollama.not_found_writer(asked.model_asked))
            return
        is_chat = isinstance(asked, OllamaChat)
        shape = AnswerShape(asked.model_asked or decision.model.name, is_chat=is_chat, started_at=now)
        if not asked.has_prompt:
            # A request to load the model: its instance is resident.
            client.reply(200, ollama_answers.loaded_answer(shape, now=now))
        else:
            path = b"/v1/completions" if asked.is_raw else b"/v1/chat/completions"
            order = Order(path, query, ollama.openai_body(asked), None, asked.is_stream)
            OllamaRelay(self._means, client, order, decision, shape=shape)

    def _post_show(self, request: Request, client: Client) -> None:
        asked = _read(OllamaShow, request, client)
        if asked is None:
            return
        decision = self._directory.choose(Query(None, model=asked.model_asked))
        if isinstance(decision, Refused):
            _reply_refused(decision, client, ollama.not_found_writer(asked.model_asked))
            return
        task = asyncio.get_running_loop().create_task(self._show(decision, client))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)
        client.wait_for(_Lookup(task))

    async def _show(self, chosen: Selected, client: Client) -> None:
        properties = await self._means.upstreams.properties(chosen.upstream, timeout_s=PROPERTIES_TIMEOUT_S)
        client.reply(200, dump(ollama_listing.show_body(chosen, properties)))

    def _get_tags(self, _: Request, client: Client) -> None:
        client.reply(200, dump(ollama_listing.tags_body(self._directory.table)))

    def _get_ps(self, _: Request, client: Client) -> None:
        directory = self._directory
        body = ollama_listing.ps_body(directory.table, directory.profile, _healthy_ids(directory.health()))
        client.reply(200, dump(body))

    # Neither dialect's.

    def _get_root(self, _: Request, client: Client) -> None:
        client.reply(200, b"Ollama is running", content_type=TEXT)

    def _get_version(self, _: Request, client: Client) -> None:
        client.reply(200, dump({"version": __version__}))

    def _get_health(self, _: Request, client: Client) -> None:
        health = self._directory.health()
        runtimes = health.get("runtimes", ())
        is_ok = len(_healthy_ids(health)) == len(runtimes)
        client.reply(200, dump({"status": "ok" if is_ok else "degraded", **health}))

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
    status = 503 if refused.is_temporary else _REFUSAL_STATUS.get(refused.problem.code, 400)
    extra = RETRY_SOON if refused.is_temporary else b""
    client.reply(status, errors(status, (refused.problem,)), extra=extra)


def _healthy_ids(health: Mapping[str, Any]) -> set[str]:
    return {runtime["model_id"] for runtime in health.get("runtimes", ()) if runtime["status"] == "healthy"}
