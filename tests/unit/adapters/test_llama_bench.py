"""What a server may answer to a measurement, and what is made of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kloros_infra.adapters.llama_bench import RUNS, HttpBench
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.bench import NEW_TOKENS, Measurement

DEPTH = 64
Answer = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Answer each question on loopback; `answer` is told how long the prompt is."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer(self, len(body["prompt"]))

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def saying(document: object, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        text = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def timings(prompt_n: int = DEPTH, predicted_n: int = NEW_TOKENS) -> dict[str, object]:
    figures = {"prompt_n": prompt_n, "predicted_n": predicted_n, "prompt_per_second": 500, "predicted_per_second": 50}
    return {"content": "x", "timings": figures}


def refusal(answer: Answer, timeout_s: float = 10) -> str:
    with serving(answer) as url, pytest.raises(UnreachableError) as caught:
        HttpBench(url, vocabulary=512, timeout_s=timeout_s).measured(DEPTH)
    (problem,) = caught.value.problems
    assert problem.code == "KI446"
    return problem.detail


def test_the_run_in_the_middle_counts() -> None:
    speeds = iter([10.0, 1000.0, 20.0])

    def answer(handler: BaseHTTPRequestHandler, prompt_tokens: int) -> None:
        found = timings(prompt_tokens)
        figures = found["timings"]
        assert isinstance(figures, dict)
        saying({**found, "timings": {**figures, "prompt_per_second": next(speeds)}})(handler, prompt_tokens)

    with serving(answer) as url:
        assert HttpBench(url, vocabulary=512).measured(DEPTH) == Measurement(DEPTH, 20.0, 50.0)
    assert RUNS == 3


@pytest.mark.parametrize(("prompt_n", "predicted_n"), [(1, NEW_TOKENS), (DEPTH, 1), (DEPTH - 1, NEW_TOKENS)])
def test_a_server_that_did_less_was_not_measured(prompt_n: int, predicted_n: int) -> None:
    told = refusal(saying(timings(prompt_n, predicted_n)))
    assert f"it read {prompt_n} of {DEPTH} tokens and generated {predicted_n} of {NEW_TOKENS}" in told


def test_the_server_s_own_reason_is_told() -> None:
    message = "request (9999 tokens) exceeds the available context size (2048 tokens)"
    assert f"it answered 400, {message}" in refusal(saying({"error": {"code": 400, "message": message}}, 400))
    assert 'it answered 503, "loading"' in refusal(saying("loading", 503))


def test_an_answer_without_figures_is_none() -> None:
    assert "its answer does not say" in refusal(saying({"content": "x"}))


def test_a_connection_that_is_cut_is_told() -> None:
    def cut(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.close_connection = True

    assert "Remote end closed connection without response" in refusal(cut)


def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time() -> None:
    is_over = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        with suppress(OSError):
            while not is_over.wait(0.02):
                handler.wfile.write(b" ")

    started = time.monotonic()
    try:
        assert "it did not answer within 0.4 s" in refusal(trickle, timeout_s=0.4)
    finally:
        is_over.set()
    assert time.monotonic() - started < 5


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    def pour(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while True:
                handler.wfile.write(b" " * 2**20)

    assert "its answer does not say" in refusal(pour)
