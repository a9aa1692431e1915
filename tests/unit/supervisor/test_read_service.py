"""From settings to a ServiceSpec: systemd's defaults, and every problem at once."""

from __future__ import annotations

import pytest

from kloros_infra.diagnostics import Problems
from kloros_infra.supervisor.command_line import Command
from kloros_infra.supervisor.read_service import read_service, seconds
from kloros_infra.supervisor.service_spec import EnvironmentFile, KillMode, Restart, ServiceKind, ServiceSpec
from kloros_infra.supervisor.unit_file import parse_unit_file


def read(text: str) -> tuple[ServiceSpec, Problems]:
    file, problems = parse_unit_file("x@a.service", text, path="/etc/x@a.service")
    assert not problems
    return read_service(file, {"%": "%", "i": "a"})


def test_defaults_are_those_of_systemd() -> None:
    spec, problems = read("[Service]\nExecStart=/bin/x\n")
    assert problems == ()
    assert spec == ServiceSpec(unit="x@a.service", start=(Command(("/bin/x",)),))
    assert (spec.timeout_start_s, spec.timeout_stop_s, spec.start_limit_burst, spec.umask) == (90.0, 90.0, 5, 0o022)


def test_every_honoured_key() -> None:
    spec, problems = read(
        """
[Unit]
StartLimitIntervalSec=15min
StartLimitBurst=4
AssertPathExists=/var/lib/%i/model.gguf
[Service]
Type=exec
ExecStartPre=-/bin/pre
ExecStart=:/bin/x "a b"
ExecStartPost=/bin/gate
RemainAfterExit=yes
Environment=A=1 B=2
Environment="C=3 4"
EnvironmentFile=/etc/%i.env
EnvironmentFile=-/etc/more.env
WorkingDirectory=/var/lib/%i
UMask=0077
Restart=on-failure
RestartSec=2s
RestartMaxDelaySec=120
TimeoutStartSec=infinity
TimeoutStopSec=1min 30s
KillMode=mixed
SuccessExitStatus=143 2
MemoryMax=16G
ProtectSystem=strict
"""
    )
    assert problems == ()
    assert spec == ServiceSpec(
        unit="x@a.service",
        start=(Command(("/bin/x", "a b")),),
        start_pre=(Command(("/bin/pre",), may_fail=True),),
        start_post=(Command(("/bin/gate",)),),
        kind=ServiceKind.EXEC,
        remain_after_exit=True,
        restart=Restart.ON_FAILURE,
        restart_s=2,
        restart_cap_s=120,
        start_limit_interval_s=900,
        start_limit_burst=4,
        timeout_start_s=None,
        timeout_stop_s=90,
        kill_mode=KillMode.MIXED,
        success_statuses=frozenset({143, 2}),
        environment=(("A", "1"), ("B", "2"), ("C", "3 4")),
        environment_files=(EnvironmentFile("/etc/a.env"), EnvironmentFile("/etc/more.env", may_be_absent=True)),
        working_directory="/var/lib/a",
        umask=0o077,
        assert_paths=("/var/lib/a/model.gguf",),
    )


def test_a_oneshot_has_no_start_timeout_of_its_own_and_may_have_several_commands() -> None:
    spec, problems = read("[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n")
    assert problems == ()
    assert spec.timeout_start_s is None
    assert [command.words[0] for command in spec.start] == ["/bin/a", "/bin/b"]


def test_the_cap_is_never_below_the_first_delay() -> None:
    spec, _ = read("[Service]\nExecStart=/bin/x\nRestartSec=10min\n")
    assert spec.restart_cap_s == 600


def test_all_problems_come_at_once_each_with_its_place() -> None:
    _, problems = read(
        """[Service]
Type=dbus
ExecStart=/bin/x $HOME
Environment=nonsense
RemainAfterExit=maybe
RestartSec=infinity
TimeoutStopSec=soon
TimeoutStartSec=5 parsecs
WorkingDirectory=~
SuccessExitStatus=SIGKILL
UMask=9
StartLimitBurst=few
"""
    )
    assert {problem.code for problem in problems} == {"KI603"}
    lines = sorted(problem.span.line for problem in problems if problem.span)
    assert lines == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]  # StartLimitBurst= stands in the wrong section: not ours to judge
    assert "known here are simple, exec, notify, oneshot" in next(p.detail for p in problems if "Type=" in p.detail)


@pytest.mark.parametrize(
    "text", ["[Service]\n", "[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n", "[Service]\nType=oneshot\n"]
)
def test_a_wrong_number_of_commands_is_a_problem(text: str) -> None:
    _, problems = read(text)
    assert [problem.code for problem in problems] == ["KI603"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5.0), ("500ms", 0.5), ("2min 30s", 150.0), ("1h30min", 5400.0), ("0", 0.0), ("1.5 s", 1.5), ("1d", 86400.0)],
)
def test_time_spans(text: str, value: float) -> None:
    assert seconds(text) == value
