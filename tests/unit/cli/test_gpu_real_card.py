"""A real card: whether a router runs, who has the card open, and nvidia-persistenced, which lets go when asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros_infra.cli.gpu_real_card import RealCard
from kloros_infra.cli.gpu_release import Holders
from kloros_infra.cli.gpu_site import GpuSite
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import StepFailedError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.fakes.files import FakeFiles
from tests.fakes.service_manager import FakeServiceManager
from tests.gpu_sites import CODE_MAX, RTX_5080, a_gpu_site

LAYOUT = Layout()


@pytest.fixture
def site(tmp_path: Path) -> GpuSite:
    found = a_gpu_site(tmp_path)
    facts = found.places.procfs / "driver" / "nvidia" / "gpus" / (RTX_5080.pci or "")
    facts.mkdir(parents=True)
    (facts / "information").write_text("Device Minor: 0\n")
    return found


def a_card(site: GpuSite, tmp_path: Path) -> RealCard:
    return RealCard(site, site.card("rtx5080"), None, dev=tmp_path / "dev")


def opened(site: GpuSite, tmp_path: Path, pid: int, name: str) -> Path:
    """Show a process that has the card's device file open; give the link that says so."""
    folder = site.places.procfs / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    link = folder / "fd" / "3"
    link.symlink_to(tmp_path / "dev" / "nvidia0")
    return link


@contextmanager
def answering(site: GpuSite, answer: bytes) -> Iterator[list[bytes]]:
    """Listen where the router does, answer one request, and give what was asked."""
    asked: list[bytes] = []
    path = site.where.root / site.where.layout.control_socket
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.settimeout(10)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                request = b""
                while not request.endswith(b"\r\n\r\n{}") and (more := connection.recv(4096)):
                    request += more
                asked.append(request)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(10)


def test_a_router_that_refuses_this_user_is_one_all_the_same(site: GpuSite, tmp_path: Path) -> None:
    card = a_card(site, tmp_path)
    assert not card.is_routed()
    with answering(site, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"):
        assert card.is_routed()


def test_a_router_that_does_not_answer_in_time_is_one_and_a_socket_that_was_left_is_none(
    site: GpuSite, tmp_path: Path
) -> None:
    card = a_card(site, tmp_path)
    card.router_answers_s = 0.05
    path = site.where.root / site.where.layout.control_socket
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert card.is_routed()
    assert not card.is_routed()


def test_a_router_is_told_to_look_before_it_is_waited_for(site: GpuSite, tmp_path: Path) -> None:
    with answering(site, b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"profile":"mid"}') as asked:
        assert a_card(site, tmp_path).is_routed()
    assert asked[0].startswith(b"POST /follow ")


def test_who_has_the_device_file_open_holds_the_card(site: GpuSite, tmp_path: Path) -> None:
    card = a_card(site, tmp_path)
    assert card.holders() == Holders()
    opened(site, tmp_path, 42, "game.exe")
    assert [(one.pid, one.name, one.held_bytes) for one in card.holders().found] == [(42, "game.exe", None)]


def test_the_persistence_daemon_is_told_once_to_let_go(
    site: GpuSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = opened(site, tmp_path, 99, "nvidia-persiste")
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    card = a_card(site, tmp_path)
    # Without the program it is a holder like any other, and so it is where the program fails.
    assert [one.pid for one in card.holders().found] == [99]
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nrm {link}\n')
    program.chmod(0o755)
    assert [one.pid for one in card.holders().found] == [99]
    assert a_card(site, tmp_path).holders() == Holders()
    assert (tmp_path / "asked").read_text() == "-i 0000:7f:00.0 -pm 0\n"


def test_what_the_service_manager_refuses_is_kept(site: GpuSite, tmp_path: Path) -> None:
    def refuse(what: str) -> None:
        if what == f"before stop {CODE_MAX}":
            raise StepFailedError([Diagnostic("KI605", "Refused", "not allowed", "")])

    files = FakeFiles()
    files.files[LAYOUT.unit_path(CODE_MAX)] = TextFile("[Service]\nExecStart=/bin/sleep 300\n")
    manager = FakeServiceManager(files, watch=refuse)
    manager.start(CODE_MAX)
    card = RealCard(site, site.card("rtx5080"), manager, dev=tmp_path)
    assert card.running() == {CODE_MAX}
    card.order_stop((CODE_MAX,))
    for thread in threading.enumerate():
        if thread.name == CODE_MAX:
            thread.join(10)
    assert [problem.detail for problem in card.problems] == ["not allowed"]
    assert card.running() == {CODE_MAX}
