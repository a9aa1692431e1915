"""The embedded supervisor with real processes: nothing outlives it, and nothing said to it brings it down."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.errors import StepFailedError, UnreachableError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.supervision import MAX_LINE_BYTES, SOCKET_NAME, log_file
from kloros_infra.supervisor.service_log import MAX_LOG_BYTES

SLEEPS = "[Service]\nType=exec\nExecStart=:/bin/sleep 300\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / Layout().units).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def client(root: Path) -> Iterator[SupervisorClient]:
    client = SupervisorClient(root)
    yield client
    client.shutdown()


def install(root: Path, unit: str, text: str) -> None:
    (root / Layout().units / unit).write_text(text)


def script(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def supervisor_pid(client: SupervisorClient) -> int:
    pid = client.pid()
    assert pid is not None
    return pid


def main_pid(client: SupervisorClient, unit: str) -> int:
    return client.states((unit,))[unit].main_pid


def until(condition: Callable[[], object], *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline


class Handles:
    """Handles of processes, taken while they live: they tell of their end even if the number is used again."""

    def __init__(self, *pids: int) -> None:
        self._handles = {pid: os.pidfd_open(pid) for pid in pids}

    def survivors(self, *, after_s: float) -> set[int]:
        """Give those that still live after a while; return at once when none does."""
        deadline = time.monotonic() + after_s
        living = dict(self._handles)
        while living and (left := deadline - time.monotonic()) > 0:
            ended = select.select(list(living.values()), [], [], left)[0]
            living = {pid: handle for pid, handle in living.items() if handle not in ended}
        for handle in self._handles.values():
            os.close(handle)
        return set(living)


def group_of(pid: int) -> set[int]:
    """Give every process of a process's group."""
    group = os.getpgid(pid)
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group:
            found.add(int(path.parent.name))
    return found


def raw(root: Path, data: bytes) -> bytes:
    """Send bytes to the supervisor and read until it closes; nothing more is sent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(root / Layout().run / SOCKET_NAME))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.fixture
def stubborn_family(root: Path, client: SupervisorClient) -> set[int]:
    """A launcher that execs, a service that ignores SIGTERM, and one with children of its own; their processes."""
    launcher = script(root, "launcher", "exec sleep 300\n")
    stubborn = script(root, "stubborn", "trap '' TERM HUP INT\nwhile :; do sleep 300; done\n")
    parent = script(root, "parent", "sleep 300 &\n(trap '' TERM; sleep 300) &\nsleep 300\n")
    for name, program in (("launcher", launcher), ("stubborn", stubborn), ("parent", parent)):
        install(root, f"{name}.service", f"[Service]\nType=exec\nKillMode=mixed\nExecStart=:{program}\n")
        client.start(f"{name}.service")
    pids = [main_pid(client, f"{name}.service") for name in ("launcher", "stubborn", "parent")]
    until(lambda: len(group_of(pids[1])) >= 3 and len(group_of(pids[2])) >= 5)
    return set().union(*(group_of(pid) for pid in pids))


def test_nothing_survives_a_killed_supervisor(client: SupervisorClient, stubborn_family: set[int]) -> None:
    family = Handles(*stubborn_family)
    os.kill(supervisor_pid(client), signal.SIGKILL)
    assert family.survivors(after_s=2) == set()


def test_a_main_process_dies_with_the_supervisor_even_without_its_guard(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    pid = main_pid(client, "a.service")
    supervisor = supervisor_pid(client)
    main = Handles(pid)
    os.kill(supervisor, signal.SIGSTOP)  # so that it does not notice
    os.kill(os.getpgid(pid), signal.SIGKILL)  # the guard leads the group
    os.kill(supervisor, signal.SIGKILL)
    assert main.survivors(after_s=2) == set()


def test_a_new_supervisor_takes_the_place_of_a_killed_one(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    first = supervisor_pid(client)
    gone = Handles(first)
    os.kill(first, signal.SIGKILL)
    assert gone.survivors(after_s=2) == set()
    assert client.pid() is None
    assert client.states(("a.service",))["a.service"].active is ActiveState.INACTIVE
    client.start("a.service")
    assert supervisor_pid(client) != first
    assert client.states(("a.service",))["a.service"].is_active


def test_a_stop_takes_the_whole_family(client: SupervisorClient, root: Path) -> None:
    parent = script(root, "parent", "(trap '' TERM; sleep 300) &\nsleep 300 & wait\n")
    install(root, "parent.service", f"[Service]\nType=exec\nKillMode=mixed\nExecStart=:{parent}\n")
    client.start("parent.service")
    pid = main_pid(client, "parent.service")
    until(lambda: len(group_of(pid)) >= 4)
    family = Handles(*group_of(pid))
    client.stop("parent.service")
    assert family.survivors(after_s=0.2) == set()


def test_a_service_that_ignores_sigterm_is_killed_after_its_time(client: SupervisorClient, root: Path) -> None:
    stubborn = script(root, "stubborn", "trap '' TERM\necho trapped\nwhile :; do sleep 300; done\n")
    install(root, "s.service", f"[Service]\nType=exec\nKillMode=mixed\nTimeoutStopSec=300ms\nExecStart=:{stubborn}\n")
    client.start("s.service")
    until(lambda: client.log_tail("s.service", 1) == ("trapped",))
    began = time.monotonic()
    client.stop("s.service")
    assert 0.3 <= time.monotonic() - began < 5
    state = client.states(("s.service",))["s.service"]
    assert (state.active, state.result) == (ActiveState.FAILED, "timeout")


def test_sigterm_stops_everything_last_ordered_first(client: SupervisorClient, root: Path) -> None:
    said = root / "said"
    for name in ("a", "b", "c"):
        at_the_end = f"trap 'echo {name} >> {said}; exit 0' TERM\n"
        program = script(root, name, f"{at_the_end}echo up\nwhile :; do sleep 0.01; done\n")
        order = "[Unit]\nAfter=" + {"a": "", "b": "a.service", "c": "b.service"}[name]
        install(root, f"{name}.service", f"{order}\n[Service]\nType=exec\nKillMode=mixed\nExecStart=:{program}\n")
        client.start(f"{name}.service")
        until(lambda unit=f"{name}.service": client.log_tail(unit, 1) == ("up",))  # type: ignore[misc]  # bound early
    pid = supervisor_pid(client)
    supervisor = Handles(pid)
    os.kill(pid, signal.SIGTERM)
    assert supervisor.survivors(after_s=10) == set()
    assert said.read_text().split() == ["c", "b", "a"]
    assert client.pid() is None
    assert not (root / Layout().run / SOCKET_NAME).exists()


def run_in_foreground(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "kloros_infra.supervisor", "--root", str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)


def test_a_second_supervisor_is_refused(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    done = run_in_foreground(root)
    assert done.returncode == 1
    assert "KI606" in done.stderr
    assert str(supervisor_pid(client)) in done.stderr
    assert client.states(("a.service",))["a.service"].is_active


def test_many_who_start_it_at_once_share_one(root: Path, client: SupervisorClient) -> None:
    units = [f"unit{number}.service" for number in range(4)]
    for unit in units:
        install(root, unit, SLEEPS)
    with ThreadPoolExecutor(len(units)) as pool:
        list(pool.map(lambda unit: SupervisorClient(root).start(unit), units))
    assert all(state.is_active for state in client.states(units).values())


def test_a_service_sees_nothing_of_the_callers_environment(
    root: Path, client: SupervisorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do not pass on")
    (root / "a.env").write_text("FROM_FILE='two words'\n")
    environment = f"Environment=FROM_UNIT=1\nEnvironmentFile={root}/a.env\nEnvironmentFile=-{root}/absent.env\n"
    install(root, "a.service", f"[Service]\nType=exec\n{environment}ExecStart=:/bin/sleep 300\n")
    client.start("a.service")
    for pid in (main_pid(client, "a.service"), supervisor_pid(client)):
        assert b"SECRET_TOKEN" not in Path(f"/proc/{pid}/environ").read_bytes()
    seen = Path(f"/proc/{main_pid(client, 'a.service')}/environ").read_text().rstrip("\0").split("\0")
    names = {variable.partition("=")[0] for variable in seen}
    assert {"FROM_FILE=two words", "FROM_UNIT=1"} <= set(seen)
    assert names <= {"FROM_FILE", "FROM_UNIT", "PATH", "HOME", "LANG"}


def test_the_socket_is_for_its_owner_alone(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    folder = root / Layout().run
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / SOCKET_NAME).stat().st_mode) == 0o600


def test_a_root_may_have_a_long_path(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30) / ("longer" * 20)
    (root / Layout().units).mkdir(parents=True)
    install(root, "a.service", SLEEPS)
    client = SupervisorClient(root)
    try:
        client.start("a.service")
        assert client.states(("a.service",))["a.service"].is_active
    finally:
        client.shutdown()


def test_what_cannot_be_understood_is_answered_and_changes_nothing(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    for nonsense in (
        b"nonsense\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'{"op": "explode"}\n',
        b'{"op": "start", "units": ["../../etc/passwd.service"]}\n',
        b'{"op": "ping", "more": 1}\n',
        b"x" * (MAX_LINE_BYTES + 1000) + b"\n",
    ):
        answer = json.loads(raw(root, nonsense))
        assert [problem["code"] for problem in answer["problems"]] == ["KI608"], nonsense[:40]
    assert raw(root, b'{"op": "st') == b""
    assert raw(root, b"") == b""
    assert client.states(("a.service",))["a.service"].is_active


def test_several_requests_on_one_connection_are_answered_in_order(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    answers = raw(root, b'{"op": "ping"}\nnonsense\n{"op": "states"}\n').splitlines()
    assert [len(json.loads(answer)["problems"]) for answer in answers] == [0, 1, 0]
    assert [state["unit"] for state in json.loads(answers[2])["states"]] == ["a.service"]


def test_clients_that_leave_early_or_never_speak_do_no_harm(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    for _ in range(300):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(root / Layout().run / SOCKET_NAME))
            connection.sendall(b'{"op": "states"}\n' * 20)
    with ExitStack() as silent:
        for _ in range(10):
            connection = silent.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.connect(str(root / Layout().run / SOCKET_NAME))
        assert client.states(("a.service",))["a.service"].is_active
        client.shutdown()
        assert client.pid() is None


def failure(client: SupervisorClient, unit: str) -> tuple[str, str]:
    with pytest.raises(StepFailedError) as caught:
        client.start(unit)
    (problem,) = caught.value.problems
    return problem.code, problem.detail + problem.hint


def test_what_stands_in_the_way_of_a_start_is_said(root: Path, client: SupervisorClient) -> None:
    install(root, "right.service", SLEEPS)
    install(root, "bad.service", "[Service]\nType=dbus\nExecStart=/bin/true\n")
    install(root, "asserts.service", f"[Unit]\nAssertPathExists={root}/weights\n{SLEEPS}")
    install(root, "needs.service", f"[Unit]\nRequires=asserts.service\nAfter=asserts.service\n{SLEEPS}")
    install(root, "env.service", f"{SLEEPS}EnvironmentFile={root}/missing.env\n")
    code, text = failure(client, "rigth.service")
    assert code == "KI601"
    assert "Did you mean right.service?" in text
    code, text = failure(client, "bad.service")
    assert code == "KI603"
    assert "Type=dbus" in text
    code, text = failure(client, "asserts.service")
    assert code == "KI604"
    assert f"{root}/weights does not exist" in text
    code, text = failure(client, "needs.service")
    assert code == "KI604"
    assert "requires asserts.service" in text
    code, text = failure(client, "env.service")
    assert code == "KI604"
    assert f"'{root}/missing.env'" in text
    assert client.states(("needs.service",))["needs.service"].active is ActiveState.INACTIVE


def test_a_stop_overtakes_a_start_that_waits(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", f"{SLEEPS}ExecStartPost=:/bin/sleep 300\n")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(client.start, "a.service")
        until(lambda: client.states(("a.service",))["a.service"].sub == "start-post")
        client.stop("a.service")
        with pytest.raises(StepFailedError) as caught:
            start.result(timeout=10)
    assert [problem.code for problem in caught.value.problems] == ["KI605"]


def test_a_start_that_takes_too_long_for_the_client_is_given_up(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", f"{SLEEPS}ExecStartPost=:/bin/sleep 300\n")
    with pytest.raises(StepFailedError) as caught:
        SupervisorClient(root, job_timeout_s=0.5).start("a.service")
    assert [problem.code for problem in caught.value.problems] == ["KI605"]


def test_a_supervisor_killed_in_the_middle_of_a_job_is_reported(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", f"{SLEEPS}ExecStartPost=:/bin/sleep 300\n")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(client.start, "a.service")
        until(lambda: client.states(("a.service",))["a.service"].sub == "start-post")
        os.kill(supervisor_pid(client), signal.SIGKILL)
        with pytest.raises(UnreachableError) as caught:
            start.result(timeout=10)
    assert [problem.code for problem in caught.value.problems] == ["KI602"]


def test_a_supervisor_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a folder should be")
    with pytest.raises(UnreachableError) as caught:
        SupervisorClient(tmp_path).start("a.service")
    (problem,) = caught.value.problems
    assert problem.code == "KI607"
    assert str(tmp_path / "run") in problem.detail


def test_asking_about_a_root_without_a_supervisor_starts_none(root: Path) -> None:
    client = SupervisorClient(root)
    assert client.states(("a.service",))["a.service"].active is ActiveState.INACTIVE
    client.reload()
    client.stop("a.service")
    client.shutdown()
    assert client.log_tail("a.service", 5) == ()
    assert client.pid() is None
    assert not (root / Layout().run).exists()


def test_a_large_log_is_put_aside_at_the_next_start(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", '[Service]\nType=oneshot\nExecStart=:/bin/echo "new line"\n')
    log = root / Layout().logs / log_file("a.service")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"old\n" * (MAX_LOG_BYTES // 4 + 1))
    client.start("a.service")
    assert log.read_text().splitlines()[1:] == ["new line"]
    assert log.with_name(log.name + ".1").stat().st_size > MAX_LOG_BYTES
    client.start("a.service")
    assert client.log_tail("a.service", 5) == ("new line", "new line")


def test_a_restart_of_a_target_restarts_what_is_part_of_it(root: Path, client: SupervisorClient) -> None:
    install(root, "t.target", "[Unit]\nWants=a.service\n")
    for name in ("a", "b", "c"):
        install(root, f"{name}.service", f"[Unit]\nPartOf=t.target\n{SLEEPS}")
    client.start("t.target")
    client.start("b.service")
    before = {unit: main_pid(client, unit) for unit in ("a.service", "b.service")}
    client.restart("t.target")
    after = client.states(("a.service", "b.service", "c.service", "t.target"))
    assert all(after[unit].is_active and after[unit].main_pid != pid for unit, pid in before.items())
    assert after["t.target"].is_active
    assert not after["c.service"].is_active


def test_links_in_a_wants_folder_count_as_wants(root: Path, client: SupervisorClient) -> None:
    install(root, "t.target", "[Unit]\nDescription=t\n")
    install(root, "a.service", SLEEPS)
    folder = root / Layout().units / "t.target.wants"
    folder.mkdir()
    (folder / "a.service").symlink_to("../a.service")
    client.start("t.target")
    assert client.states(("a.service",))["a.service"].is_active


def test_a_unit_whose_file_is_gone_can_still_be_stopped(root: Path, client: SupervisorClient) -> None:
    install(root, "a.service", SLEEPS)
    client.start("a.service")
    (root / Layout().units / "a.service").unlink()
    client.reload()
    state = client.states(("a.service",))["a.service"]
    assert state.is_active
    assert state.needs_reload
    client.stop("a.service")
    assert client.states(("a.service",))["a.service"].active is ActiveState.INACTIVE


def test_all_units_are_of_the_generation_that_was_current_at_the_last_reload(tmp_path: Path) -> None:
    layout, root = Layout(), tmp_path / "root"
    for number in (1, 2):
        units = root / layout.generation_path(number) / "units"
        units.mkdir(parents=True)
        for unit in ("kloros-one.service", "kloros-two.service"):
            (units / unit).write_text(f'[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 300; : {number}"\n')
    current = root / layout.current
    current.symlink_to("generations/1")
    client = SupervisorClient(root)
    try:
        client.start("kloros-one.service")
        current.unlink()
        current.symlink_to("generations/2")
        # Of two units that start, neither takes the new generation before the reload.
        client.start("kloros-two.service")
        assert {generation_of(client, unit) for unit in ("kloros-one.service", "kloros-two.service")} == {"1"}
        assert client.states(("kloros-one.service",))["kloros-one.service"].needs_reload
        client.reload()
        client.restart("kloros-one.service")
        assert generation_of(client, "kloros-one.service") == "2"
    finally:
        client.shutdown()


def generation_of(client: SupervisorClient, unit: str) -> str:
    """Read from a process's words which generation's unit it was started by."""
    pid = client.states((unit,))[unit].main_pid
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()[-1]
