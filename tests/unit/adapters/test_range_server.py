"""Files on loopback, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kloros_infra.adapters.range_server import RangeServer, serving

TEXT = bytes(range(256)) * 8192


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write two files that are served, and one that is not."""
    for name, data in (("a 1.gguf", TEXT), ("b.gguf", b""), ("secret", b"secret")):
        (tmp_path / name).write_bytes(data)
    return [tmp_path / "a 1.gguf", tmp_path / "b.gguf"]


@pytest.fixture
def server(files: list[Path]) -> Iterator[RangeServer]:
    """Serve them."""
    with serving(files) as server:
        yield server


def get(url: str, *, asked: str | None = None, method: str = "GET") -> httpx.Response:
    headers = {} if asked is None else {"Range": asked}
    return httpx.request(method, url, headers=headers, trust_env=False)


def test_a_file_comes_whole(server: RangeServer, files: list[Path]) -> None:
    answer = get(server.url(files[0]))

    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert get(server.url(files[1])).content == b""


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-1999999", 0, 1999999),
        ("bytes=5-5", 5, 5),
        ("bytes=2097000-", 2097000, len(TEXT) - 1),
        ("bytes=2000000-3999999", 2000000, len(TEXT) - 1),
    ],
)
def test_a_piece_comes_as_far_as_the_file_goes(
    server: RangeServer, files: list[Path], asked: str, first: int, last: int
) -> None:
    answer = get(server.url(files[0]), asked=asked)

    assert (answer.status_code, answer.content) == (206, TEXT[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(TEXT)}"


@pytest.mark.parametrize("asked", [f"bytes={len(TEXT)}-", "bytes=9-8"])
def test_a_piece_that_is_not_there_is_refused(server: RangeServer, files: list[Path], asked: str) -> None:
    answer = get(server.url(files[0]), asked=asked)

    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{len(TEXT)}"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=0-1,4-5", "bytes=-5"])
def test_what_is_not_one_range_of_bytes_gets_the_whole(server: RangeServer, files: list[Path], asked: str) -> None:
    assert get(server.url(files[0]), asked=asked).status_code == 200


def test_a_size_can_be_asked_for_alone(server: RangeServer, files: list[Path]) -> None:
    answer = get(server.url(files[0]), method="HEAD")

    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, str(len(TEXT)), b"")


def test_nothing_else_is_there(server: RangeServer, files: list[Path]) -> None:
    url = httpx.URL(server.url(files[0]))
    for path in ("/", "/a%201.gguf", url.path.replace("a 1.gguf", "secret"), "/../secret"):
        assert get(str(url.copy_with(path=path))).status_code == 404
    assert url.host == "127.0.0.1"


def test_it_is_gone_when_it_is_not_needed_any_more(files: list[Path]) -> None:
    with serving(files) as server:
        url = server.url(files[0])

    with pytest.raises(httpx.ConnectError):
        get(url)
