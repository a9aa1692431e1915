"""`await_rpc`: what its command line takes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from kloros_infra.cli.commands.await_rpc_command import command
from kloros_infra.errors import ObstacleError
from tests.free_ports import free_ports


@pytest.mark.parametrize(
    "word", ["nonsense", "abc:", ":50052", "10.0.0.7:x", "10.0.0.7:0", "10.0.0.7:65536", "10.0.0.7:99999999", "a:٣"]
)
def test_what_is_no_endpoint_is_refused_in_words(word: str) -> None:
    result = CliRunner().invoke(command, [word, "--wait", "0s"])
    assert result.exit_code == 2
    assert f"{word!r} is not ADDRESS:PORT, such as 100.64.0.7:50052." in result.stderr


def test_where_nobody_listens_it_is_said() -> None:
    (port,) = free_ports(1)
    result = CliRunner().invoke(command, [f"127.0.0.1:{port}", "--wait", "0s"])
    assert isinstance(result.exception, ObstacleError)
    assert [problem.code for problem in result.exception.problems] == ["KI434"]
