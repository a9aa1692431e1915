"""What the environment says of how to reach the hub, and which of it cannot be used (KI331).

Values are never shown: a token is a secret, and a proxy's address may hold a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from kloros_infra.diagnostics import Diagnostic

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


def unusable_settings(environment: Mapping[str, str] | None = None) -> tuple[Diagnostic, ...]:
    """Find variables with which no request can be made; those of this process unless others are given."""
    return tuple(_problems(os.environ if environment is None else environment))


def _problems(environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    for name in _TOKENS:
        # The HTTP client writes header values in ASCII.
        if not environment.get(name, "").isascii():
            yield _unusable(name, "no token: it has letters that no token has")
    endpoint = environment.get("HF_ENDPOINT", "")
    if endpoint and not _is_address(endpoint):
        yield _unusable("HF_ENDPOINT", "no address as in https://huggingface.co")
    for upper in _PROXIES:
        for name in (upper, upper.lower()):
            proxy = environment.get(name, "")
            if proxy and not _is_address(proxy if "://" in proxy else f"http://{proxy}", *_socks()):
                yield _unusable(name, "no address of a proxy as in http://proxy:3128; SOCKS takes the package socksio")


def _socks() -> tuple[str, ...]:
    """Name the other protocols that the HTTP client speaks to proxies with what is installed."""
    return ("socks5", "socks5h") if find_spec("socksio") else ()


def _is_address(text: str, *protocols: str) -> bool:
    try:
        parts = urlsplit(text)
        # Asking for a port that is none raises ValueError.
        return (
            parts.scheme in ("http", "https", *protocols)
            and bool(parts.hostname)
            and parts.port != 0
            and text.isprintable()
        )
    except ValueError:
        return False


def _unusable(name: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI331",
        summary="Setting of the hub cannot be used",
        detail=f"The environment variable {name} is {reason}.",
        hint=f"Mend {name}, or unset it.",
    )
