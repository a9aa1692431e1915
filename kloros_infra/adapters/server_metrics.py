"""Ask llama-servers how many requests they are answering (llama.cpp, tools/server/README.md, GET /metrics)."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

TIMEOUT_S = 0.5
AT_ONCE = 16
MOST_BYTES = 256 * 1024
REQUESTS = re.compile(r"^llamacpp:requests_(?:processing|deferred)\s+(\d+)(?:\.0*)?\s*$", re.MULTILINE)


def requests_in_flight(urls: Mapping[str, str]) -> Mapping[str, int]:
    """Ask servers by name, at once; those that do not answer in time, or not with such figures, are left out."""
    if not urls:
        return {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(_requests, urls.values())
        return {name: requests for name, requests in zip(urls, found, strict=True) if requests is not None}


def _requests(url: str) -> int | None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path, headers={"Connection": "close"})
        text = connection.getresponse().read(MOST_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    figures = REQUESTS.findall(text)
    return sum(map(int, figures)) if figures else None
