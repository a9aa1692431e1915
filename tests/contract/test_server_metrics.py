"""Requests in flight, asked of servers on loopback, a real llama-server among them."""

from __future__ import annotations

import pytest

from kloros_infra.adapters.server_metrics import requests_in_flight
from tests.contract.test_health import server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"
METRICS = b"""# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
llamacpp:prompt_tokens_total 7
"""


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (HEAD + METRICS, 3),
        (HEAD + b"llamacpp:requests_processing 0\n", 0),
        (HEAD + b"llamacpp:requests_processing 4.0\n", 4),
        (HEAD + b"llamacpp:requests_processing many\n", None),
        (b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n", None),
        (b"garbage\r\n\r\n", None),
        (b"", None),
        (None, None),
    ],
    ids=["busy", "idle", "float", "words", "off", "garbage", "closed", "silent"],
)
def test_a_server_says_how_many_requests_it_answers(answer: bytes | None, requests: int | None) -> None:
    with server(answer) as port:
        found = requests_in_flight({"code": f"http://127.0.0.1:{port}/metrics"})
    assert found == ({} if requests is None else {"code": requests})


def test_nobody_listens_and_nobody_is_asked() -> None:
    with server(b"") as port:
        pass
    assert requests_in_flight({"gone": f"http://127.0.0.1:{port}/metrics"}) == {}
    assert requests_in_flight({}) == {}
