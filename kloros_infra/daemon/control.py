"""The runtime control API (design document, section 5.3): what operators may ask of the router over its Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_framing import Request
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.openai import error_body, field_problems
from kloros_infra.daemon.relay import Client
from kloros_infra.daemon.runtime_orders import Name, Ordered, RuntimeOrders
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.control import Followed
from kloros_infra.router.clients import Clients
from kloros_infra.router.explain import explanation_data
from kloros_infra.router.marks import Traits, by_marks
from kloros_infra.router.query import Query
from kloros_infra.router.views import WaitingView

Handler = Callable[[Request, Client], None]
PATHS = "GET /runtimes/health, GET /queue, GET /route, POST /runtimes/start, POST /runtimes/stop and POST /follow."
MOST_FIELDS = 32


class RouteQuestion(BaseModel):
    """The query of `GET /route`, as a request would say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: Name | None = None
    model: Name | None = None
    persona: Name | None = None
    kind: ModelKind = ModelKind.CHAT
    min_context_tokens: Annotated[int, Field(ge=1)] | None = None
    cost_tier: CostTier | None = None
    language: Name | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] = 0
    source: Name | None = None


class Control:
    """Answers operators; whoever is asked here was let in by the socket."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._orders = RuntimeOrders(desk)
        self._routes: Mapping[bytes, Mapping[str, Handler]] = {
            b"/runtimes/health": {"GET": self._health},
            b"/runtimes/start": {"POST": self._start},
            b"/runtimes/stop": {"POST": self._stop},
            b"/queue": {"GET": self._queue},
            b"/route": {"GET": self._route},
            b"/follow": {"POST": self._follow},
        }

    def answer(self, request: Request, client: Client) -> None:
        """Answer at once: what takes time is begun, and seen by asking for the health."""
        path = request.path[:200].decode("ascii", "backslashreplace")
        handlers = self._routes.get(request.path)
        if handlers is None:
            _refuse(client, 404, (replace(http_problems.unknown_path(path), hint=f"There is {PATHS}"),))
            return
        handler = handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(handlers)
            allow = f"Allow: {allowed}\r\n".encode()
            problem = http_problems.wrong_method(request.method, path, allowed)
            client.reply(405, error_body(405, (problem,)), extra=allow)
            return
        handler(request, client)

    # Runtimes.

    def _health(self, _: Request, client: Client) -> None:
        client.reply(200, dump(self._orders.health()))

    def _start(self, request: Request, client: Client) -> None:
        self._order(self._orders.start, request, client)

    def _stop(self, request: Request, client: Client) -> None:
        self._order(self._orders.stop, request, client)

    def _order(self, order: Callable[[Mapping[str, Any]], Ordered], request: Request, client: Client) -> None:
        body = parse_object(request.body)
        if isinstance(body, Diagnostic):
            _refuse(client, 400, (body,))
            return
        status, runtime, problems = order(body)
        if problems:
            _refuse(client, status, problems)
        else:
            client.reply(status, dump(runtime))

    def _follow(self, _: Request, client: Client) -> None:
        """Take up a new table, profile and report of the cards before answering."""
        self._desk.follow()
        client.reply(200, dump(Followed(profile=self._desk.profile).model_dump()))

    # Requests.

    def _queue(self, _: Request, client: Client) -> None:
        waiting = [_waiting(one) for one in self._desk.overview().waiting]
        client.reply(200, dump({"waiting": waiting}))

    def _route(self, request: Request, client: Client) -> None:
        question = _question(request.query)
        if not isinstance(question, RouteQuestion):
            _refuse(client, 400, question)
            return
        table = self._desk.table
        known = Clients(table.policies).of(question.source)
        query = by_marks(table, _query(question), _traits(question), known)
        name = known.name if known is not None else question.source or ""
        found = self._desk.explain(query, client=name, tokens=question.tokens)
        client.reply(200, dump(explanation_data(found)))


def _question(query: bytes) -> RouteQuestion | Problems:
    try:
        fields = dict(parse_qsl(query.decode("ascii", "replace"), max_num_fields=MOST_FIELDS))
        return RouteQuestion.model_validate(fields)
    except ValidationError as error:
        return field_problems(error)
    except ValueError as error:
        return (http_problems.malformed(f"its query cannot be read ({error})"),)


def _refuse(client: Client, status: int, problems: Problems) -> None:
    client.reply(status, error_body(status, problems))


def _waiting(one: WaitingView) -> dict[str, Any]:
    return {
        "request_id": one.request_id,
        "model_id": one.model_id,
        "client": one.client or None,
        "priority": one.priority.value,
        "position": one.position,
        "waited_seconds": round(one.waited_s, 3),
        "left_seconds": round(one.left_s, 3),
        "attempts": one.attempt,
    }


def _query(question: RouteQuestion) -> Query:
    return Query(
        kind=question.kind,
        purpose=question.purpose,
        model=question.model,
        persona=question.persona,
        min_context_tokens=question.min_context_tokens,
        cost_tier=question.cost_tier,
        language=question.language,
        max_latency_s=None if question.max_latency_ms is None else question.max_latency_ms / 1000,
    )


def _traits(question: RouteQuestion) -> Traits:
    return Traits(
        model=question.model,
        source=question.source,
        kind=question.kind,
        has_images=question.kind is ModelKind.VISION,
        tokens=question.tokens,
    )
