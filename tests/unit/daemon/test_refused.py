"""A refusal in HTTP's words."""

from __future__ import annotations

import pytest

from kloros_infra.daemon.refused import headers_of, status_of
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Refuse


def refuse(
    code: str, *, is_temporary: bool = False, after_s: float | None = None, position: int | None = None
) -> Refuse:
    return Refuse("1", Diagnostic(code=code, summary="", detail="", hint=""), is_temporary, after_s, position)


@pytest.mark.parametrize(
    ("code", "is_temporary", "status"),
    [
        ("KI801", False, 404),
        ("KI806", False, 503),
        ("KI807", False, 400),
        ("KI860", False, 403),
        ("KI864", True, 429),
        ("KI870", True, 503),
        ("KI872", False, 503),
    ],
)
def test_each_refusal_has_its_status(code: str, is_temporary: bool, status: int) -> None:
    assert status_of(refuse(code, is_temporary=is_temporary)) == status


def test_what_may_be_gone_soon_says_when_and_where_in_line() -> None:
    assert headers_of(refuse("KI801")) == b""
    assert headers_of(refuse("KI870", is_temporary=True)) == b"Retry-After: 1\r\n"
    full = refuse("KI871", is_temporary=True, after_s=2.4, position=7)
    assert headers_of(full) == b"Retry-After: 3\r\nX-Kloros-Queue-Position: 7\r\n"
