"""Two applies at once, as real processes: one works, the other gives up or waits, and never do both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.cli.wiring import Target, generations_of, journal_of
from tests.free_ports import free_ports
from tests.tiny_site import apply_quietly, running, tiny

CHECKOUT = Path(__file__).parents[2]
ALL = frozenset({"kloros-a.service"})
# Its service listens, and so is ready, once a file is there.
APPLY = """
import sys
from dataclasses import replace
from pathlib import Path
import click
from kloros_infra.cli.changing import Manner, carry_out
from kloros_infra.cli.program import run
from kloros_infra.ir.artifact import TextFile
from tests.tiny_site import target_at, tiny
root, version, port, wait_s = sys.argv[1:]
where = target_at(Path(root))
wanted = tiny(where, {"kloros-a.service": version})
server = f'''#!{sys.executable}
import signal, socket, time
from pathlib import Path
while not Path("{root}/go").exists():
    time.sleep(0.01)
server = socket.create_server(("127.0.0.1", {port}))
signal.pause()
'''
first, *rest = wanted.units
first = replace(first, ready_url=f"tcp://127.0.0.1:{port}", timeout_s=60.0)
tree = {**wanted.tree, where.layout.program_path("sleeper"): TextFile(server, 0o755)}
wanted = replace(wanted, tree=tree, units=(first, *rest))
@click.command()
def command():
    carry_out(wanted, where, Manner(yes=True, shows_plan=False, wait_s=float(wait_s)))
sys.argv = sys.argv[:1]
run(command, "apply")
"""


@pytest.fixture
def where(where: Target) -> Target:
    apply_quietly(tiny(where, {"kloros-a.service": "1"}), where)
    return where


def begin(where: Target, version: str, port: int, *, wait_s: float = 0.0) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", APPLY, str(where.root), version, str(port), str(wait_s)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=CHECKOUT)


def end_of(apply: subprocess.Popen[str]) -> tuple[int, str]:
    told = apply.communicate(timeout=60)[1]
    return apply.returncode, told


def go(where: Target) -> None:
    (where.root / "go").touch()


def test_of_two_applies_one_works_and_the_other_waits_or_gives_up(where: Target) -> None:
    (port,) = free_ports(1)
    with begin(where, "2", port) as first:
        assert first.stderr is not None
        assert any("wait for kloros-a.service" in line for line in first.stderr)
        with begin(where, "3", port) as other:
            code, told = end_of(other)
        assert code == 5
        assert "KI512" in told
        assert f"pid {first.pid}" in told
        with begin(where, "3", port, wait_s=60.0) as second:
            assert generations_of(where).history().numbers == (1, 2)
            go(where)
            assert end_of(first)[0] == 0
            assert end_of(second)[0] == 0
    assert generations_of(where).history().numbers == (1, 2, 3)
    assert running(where, ALL) == {"kloros-a.service": "3"}
    # The lines of each stand together, from its beginning to its end.
    for lines in journal_of(where).applies().values():
        assert [line["event"] for line in lines].count("begin") == 1
        assert (lines[0]["event"], lines[-1]["event"]) == ("begin", "finish")


@pytest.mark.parametrize("wait_s", [0.0, 60.0])
def test_of_many_applies_at_once_each_is_done_or_refused(where: Target, wait_s: float) -> None:
    go(where)
    (port,) = free_ports(1)
    ends = [end_of(apply) for apply in [begin(where, str(version), port, wait_s=wait_s) for version in (2, 3, 4)]]
    codes = [code for code, _ in ends]
    assert set(codes) <= {0, 5}, ends
    assert codes == [0, 0, 0] or not wait_s
    assert generations_of(where).history().numbers == tuple(range(1, 2 + codes.count(0)))
    assert generations_of(where).history().current == 1 + codes.count(0)
    assert journal_of(where).unfinished() is None
