"""Measure a running llama-server: it reads a prompt and generates, and says itself how fast it was."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from statistics import median
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError

from kloros_infra.adapters.llama_server import exchange, shown
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.bench import NEW_TOKENS, Measurement

RUNS = 3
TIMEOUT_S = 600.0
# Common words lie behind the bytes and the marks with which vocabularies begin.
_FIRST_WORD, _STRIDE = 300, 37

_Speed = Annotated[FiniteFloat, Field(gt=0)]


class _Timings(BaseModel):
    """Part of an answer of /completion (llama.cpp, tools/server/README.md)."""

    prompt_n: PositiveInt
    prompt_per_second: _Speed
    predicted_n: PositiveInt
    predicted_per_second: _Speed


class _Completion(BaseModel):
    timings: _Timings


class _Error(BaseModel):
    message: str


class _Refusal(BaseModel):
    """What is answered where a request is not served."""

    error: _Error


class HttpBench:
    """Speaks HTTP to one llama-server; `timeout_s` is for all of one answer."""

    def __init__(self, base_url: str, *, vocabulary: int, timeout_s: float = TIMEOUT_S) -> None:
        self._base_url = base_url
        self._vocabulary = vocabulary
        self._timeout_s = timeout_s

    def measured(self, depth_tokens: int) -> Measurement:
        """Ask some times for a prompt of this length, and give the run in the middle; raise UnreachableError."""
        timings = [self._ask(depth_tokens, run) for run in range(RUNS)]
        return Measurement(
            depth_tokens,
            median(one.prompt_per_second for one in timings),
            median(one.predicted_per_second for one in timings),
        )

    def _ask(self, depth_tokens: int, run: int) -> _Timings:
        body = {
            "prompt": list(self._prompt(depth_tokens, run)),
            "n_predict": NEW_TOKENS,
            "cache_prompt": False,
            "ignore_eos": True,
            "temperature": 0.0,
        }
        try:
            status, answer = exchange(self._base_url, "/completion", body, time.monotonic() + self._timeout_s)
        except TimeoutError as error:
            raise self._no_answer(f"it did not answer within {self._timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(shown(error)) from error
        if status != HTTPStatus.OK:
            raise self._no_answer(f"it answered {status}, {_refusal(answer)}")
        try:
            timings = _Completion.model_validate_json(answer).timings
        except ValidationError as error:
            raise self._no_answer("its answer does not say how long that took") from error
        if timings.prompt_n < depth_tokens or timings.predicted_n < NEW_TOKENS:
            read, generated = f"{timings.prompt_n} of {depth_tokens}", f"{timings.predicted_n} of {NEW_TOKENS}"
            raise self._no_answer(f"it read {read} tokens and generated {generated}")
        return timings

    def _prompt(self, depth_tokens: int, run: int) -> Sequence[int]:
        """Give words that differ from run to run, so that none is in the cache; which words does not matter."""
        return tuple(self._words(depth_tokens, run))

    def _words(self, depth_tokens: int, run: int) -> Iterator[int]:
        first = min(_FIRST_WORD, self._vocabulary - 1)
        for place in range(depth_tokens):
            yield first + (run + place * _STRIDE) % (self._vocabulary - first)

    def _no_answer(self, reason: str) -> UnreachableError:
        problem = Diagnostic(
            code="KI446",
            summary="Not measured",
            detail=f"{self._base_url} was asked to read a prompt and to generate, and did not: {reason}.",
            hint="See that the instance runs: `modelctl status` tells, and `modelctl logs` what it says.",
        )
        return UnreachableError([problem])


def _refusal(answer: bytes) -> str:
    """Quote the reason that llama-server gives, or else what came."""
    try:
        return shown(_Refusal.model_validate_json(answer).error.message)
    except ValidationError:
        return shown(answer.decode(errors="replace"))
