"""The contract tests of service managers, and our readers of systemd's files, against a real systemd."""

from __future__ import annotations

import json
import re
import time

import pytest

from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.supervisor.command_line import parse_commands
from tests.system.conftest import INSIDE_CHECKOUT, INSIDE_SITE_PACKAGES
from tests.system.container import Container

pytestmark = pytest.mark.system

PYTHON = ("env", f"PYTHONPATH={INSIDE_CHECKOUT}:{INSIDE_SITE_PACKAGES}", "/usr/bin/python3", "-B")
NASTY_ENVIRONMENT = r"""
PLAIN=a b  c
  PADDED  =   x y
ESCAPED=blk\.0\.attn=CUDA0,blk\.1
SINGLE='blk\.0,"x" $HOME `id`'
DOUBLE="a \"b\" \\ \$x \`y\` \n \."
JOINED=one \
two
MIXED='a' "b"c
LATE=x"y"'z'
HASH=a # b
EMPTY=
TWO_LINES='first
second'
# comment
; comment
export SKIPPED=1
1ALSO=2
LAST="unended by newline"
"""
NASTY_COMMANDS = (
    r':/bin/x a "b c" \'d e\' "" f',
    r':/bin/x "back\\slash" "quo\"te" a\x41\101\u00e9 "100%%" $HOME ${PATH}',
    r':/bin/x "blk\\.(1|2)\\.ffn=CUDA0,x" a\;b "semi ; colon" x;',
    r":/bin/x 'single \\ \' quote' tab\tx a\sb",
)


def test_systemd_keeps_the_contract_of_service_managers(systemd_container: Container) -> None:
    pytest_here = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "systemd"]
    command = [*PYTHON, *pytest_here, f"{INSIDE_CHECKOUT}/tests/contract/test_service_manager.py"]
    settings = ("KLOROS_TEST_SYSTEMD=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1")
    done = systemd_container.run(["env", "-C", INSIDE_CHECKOUT, *settings, *command])
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 15


def test_without_rights_systemd_refuses_with_our_words(systemd_container: Container) -> None:
    script = """
from kloros_infra.adapters.systemd import Systemd
from kloros_infra.errors import KlorosError
try:
    Systemd().start("dbus.service")
    Systemd().stop("systemd-logind.service")
except KlorosError as error:
    print(error.problems[0].code)
"""
    as_nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    done = systemd_container.run([*as_nobody, *PYTHON, "-c", script])
    assert done.stdout.split() == ["KI609"]


def test_a_job_that_takes_too_long_is_given_up(systemd_container: Container) -> None:
    unit = "kloros-slow.service"
    systemd_container.write(f"/run/systemd/system/{unit}", "[Service]\nType=oneshot\nExecStart=/bin/sleep 300\n")
    script = f"""
from kloros_infra.adapters.systemd import Systemd
from kloros_infra.errors import KlorosError
try:
    Systemd(job_timeout_s=0.3).start("{unit}")
except KlorosError as error:
    print(error.problems[0].code)
"""
    began = time.monotonic()
    done = systemd_container.run([*PYTHON, "-c", script])
    assert done.stdout.split() == ["KI605"]
    assert time.monotonic() - began < 10
    systemd_container.run(["systemctl", "stop", unit])


def test_systemd_reads_env_files_as_our_supervisor_does(systemd_container: Container) -> None:
    systemd_container.write("/run/kloros-nasty.env", NASTY_ENVIRONMENT)
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    run = ["systemd-run", "--pipe", "--wait", "-q", "-p", "EnvironmentFile=/run/kloros-nasty.env"]
    seen = json.loads(systemd_container.run([*run, "/usr/bin/python3", "-c", script]).stdout)
    ours = parse_environment_file(NASTY_ENVIRONMENT)
    assert len(ours) == 12
    assert {name: seen.get(name) for name in ours} == ours
    assert not {"SKIPPED", "1ALSO", "export SKIPPED"} & seen.keys()


@pytest.mark.parametrize("command", NASTY_COMMANDS)
def test_systemd_reads_commands_as_our_supervisor_does(systemd_container: Container, command: str) -> None:
    unit = "kloros-words.service"
    script = "/run/kloros-words.py"
    systemd_container.write(script, "#!/usr/bin/python3\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    systemd_container.run(["chmod", "+x", script])
    text = f"[Service]\nType=oneshot\nStandardOutput=truncate:/run/words.json\nExecStart={command}\n"
    systemd_container.write(f"/run/systemd/system/{unit}", text.replace("/bin/x", script))
    systemd_container.run(["systemctl", "daemon-reload"])
    systemd_container.run(["systemctl", "start", unit])
    seen = tuple(json.loads(systemd_container.run(["cat", "/run/words.json"]).stdout))
    ((ours,),) = (parse_commands(command, {"%": "%"}),)
    assert seen == ours.words[1:]
