"""Ask a llama-server for the least that proves it works: one token, one embedding, one rank.

By the standard library's client, for the reasons of `adapters.health`: one request to a loopback server.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import TokenAnswer

WORD = "Hello"
PIECE_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 4 * 2**20
"""More than the embedding of a word in any model."""
SHOWN_CHARACTERS = 200
UNREAD = b"The model produced output that does not match the expected"
"""llama-server has generated, and cannot tell what that is (llama.cpp, common/chat.cpp, common_chat_peg_parse): no
wonder of a single token, such as one that only begins to think."""


class _Usage(BaseModel):
    completion_tokens: PositiveInt


class _Completion(BaseModel):
    usage: _Usage
    choices: Annotated[tuple[Any, ...], Field(min_length=1)]


class _Embedding(BaseModel):
    """Numbers that are no numbers (NaN) come as null: the model is broken, or its device computes nonsense."""

    embedding: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]


class _Embeddings(BaseModel):
    data: Annotated[tuple[_Embedding, ...], Field(min_length=1)]


class _Rank(BaseModel):
    relevance_score: FiniteFloat


class _Ranking(BaseModel):
    results: Annotated[tuple[_Rank, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class _Question:
    path: str
    body: Mapping[str, Any]
    answer: type[BaseModel]


# Chat, not /completion: a chat template that fails is found here, and not by the first user. The likeliest token, so
# that asking again gives the same.
_CHAT = _Question(
    "/v1/chat/completions",
    {"messages": [{"role": "user", "content": WORD}], "max_tokens": 1, "temperature": 0},
    _Completion,
)
_QUESTIONS = {
    ModelKind.CHAT: _CHAT,
    ModelKind.VISION: _CHAT,
    ModelKind.EMBEDDING: _Question("/v1/embeddings", {"input": WORD}, _Embeddings),
    ModelKind.RERANK: _Question("/v1/rerank", {"query": WORD, "documents": [WORD]}, _Ranking),
}


class HttpLlamaServers:
    """Speaks HTTP to llama-servers on this machine."""

    def ask_token(self, base_url: str, kind: ModelKind, timeout_s: float) -> TokenAnswer:
        """Ask once; `timeout_s` is for all of it, from connecting to the last byte."""
        question = _QUESTIONS[kind]
        try:
            status, body = exchange(base_url, question.path, question.body, time.monotonic() + timeout_s)
        except TimeoutError:
            return TokenAnswer(is_good=False, detail=f"it did not answer within {timeout_s:g} s")
        except (OSError, http.client.HTTPException) as error:
            return TokenAnswer(is_good=False, detail=f"the connection was lost ({shown(error)})")
        if question is _CHAT and UNREAD in body:
            return TokenAnswer(is_good=True)
        if status != http.HTTPStatus.OK:
            return TokenAnswer(is_good=False, detail=f"it answered {status}, {shown(body.decode(errors='replace'))}")
        return _judge(question, body)


def exchange(base_url: str, path: str, question: Mapping[str, Any], deadline: float) -> tuple[int, bytes]:
    """Post JSON and give the answer's status and what of its body is no larger than it may be.

    `deadline` is by the monotonic clock and for all of it, however slowly the bytes come; raise TimeoutError then.
    """
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_left(deadline))
    try:
        connection.connect()
        connection.sock.settimeout(_left(deadline))
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", path, json.dumps(question), headers)
        # The answer owns the socket once the connection is to be closed after it.
        stream = connection.sock
        with connection.getresponse() as response:
            body = b""
            while len(body) < MAX_ANSWER_BYTES:
                stream.settimeout(_left(deadline))
                if not (piece := response.read1(PIECE_BYTES)):
                    break
                body += piece
            return response.status, body
    finally:
        connection.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _judge(question: _Question, body: bytes) -> TokenAnswer:
    try:
        question.answer.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the answer"
        return TokenAnswer(is_good=False, detail=f"its answer is not one: {place}: {first['msg'].lower()}")
    return TokenAnswer(is_good=True)


def shown(text: object) -> str:
    """Quote what came back, in one short line."""
    line = " ".join(str(text).split()) or "without a word"
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"
