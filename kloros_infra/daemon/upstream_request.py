"""Write requests to targets: where a path lies on a host, and with whose credential it is asked."""

from __future__ import annotations

from urllib.parse import urlsplit

from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.router.effects import Target

# OpenAI's paths begin with it; a host's own prefix may hold it already.
_VERSION = b"/v1"


def post_head(target: Target, path: bytes, secret: str | None = None) -> bytes:
    """Begin a POST of JSON to one of OpenAI's paths, which llama-server and Ollama have as well."""
    return b"POST %b HTTP/1.1\r\nHost: %b\r\n%bContent-Type: application/json\r\nContent-Length: " % (
        path if target.is_local else _path_on(target, path),
        _authority(target),
        _authorization(secret),
    )


def post_request(head: bytes, body: bytes) -> bytes:
    """Write a POST that has been begun."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


def get_request(target: Target, path: bytes, secret: str | None = None) -> bytes:
    """Write a GET of a path that is whole as it is."""
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (path, _authority(target), _authorization(secret))


def owner_of(target: str) -> str:
    """Name what is asked for a target's health: the host of `host/model-id`, or the instance itself."""
    return target.partition("/")[0]


def place_of(url: str) -> tuple[Target, bytes]:
    """Read an http or https URL as a target and the path to ask it for."""
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    address = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(url, UpstreamKind.OPENAI, address, port, is_tls=is_tls, is_local=False)
    return target, path.encode()


def _path_on(target: Target, path: bytes) -> bytes:
    prefix = target.path.rstrip("/").encode()
    return prefix + (path.removeprefix(_VERSION) if prefix.endswith(_VERSION) else path)


def _authority(target: Target) -> bytes:
    address = f"[{target.address}]" if ":" in target.address else target.address
    return f"{address}:{target.port}".encode()


def _authorization(secret: str | None) -> bytes:
    return b"" if secret is None else b"Authorization: Bearer %b\r\n" % secret.encode()
