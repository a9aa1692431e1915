"""The unit of an instance under a real systemd: words arrive as they were written, its sandbox is as wide as said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.emit_command import argument_words
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.resolve import resolve
from kloros_infra.diagnostics import has_errors
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.config_models import parse_argument
from kloros_infra.ir.layout import Layout
from tests.factories import a_lock_for
from tests.system.container import Container, scratch

pytestmark = pytest.mark.system

UNIT = "llama@small-cpu_only.service"
LAYOUT = Layout()
FOLDERS = ("/etc/kloros-infra", "/home/kloros", "/usr/lib/kloros-infra", LAYOUT.absolute(LAYOUT.weights))
TEXT = """\
version: 1
hosts: {box: {}}
profiles: {cpu_only: {gpus: []}}
models:
  - id: small
    display_name: Small
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    versions: [{version_id: "1", gguf_url: file:///weights/small.gguf}]
    profiles: {cpu_only: {port: 8601}}
    arguments: ARGUMENTS
sandbox: SANDBOX
"""
# In llama-server's place stands what waits: its words are read from outside.
WAITING = "#!/usr/bin/python3\nimport signal\nsignal.pause()\n"


def compiled(arguments: str = "{}", sandbox: str = "{}") -> Mapping[str, str] | None:
    """Compile the texts of the instance's unit and env file; None where models.yaml is refused."""
    parsed, problems = parse(TEXT.replace("ARGUMENTS", arguments).replace("SANDBOX", sandbox), file="models.yaml")
    if parsed is None or has_errors(problems):
        return None
    catalog, problems = resolve(parsed, a_lock_for(parsed.config))
    if catalog is None:
        return None
    placements, _ = checked(place_all(catalog))
    tree = emit(catalog, placements, read_templates(), LAYOUT)
    return {path: file.text for path, file in tree.items() if "small" in path and isinstance(file, TextFile)}


@pytest.fixture(scope="module")
def machine(systemd_container: Container) -> Iterator[Container]:
    """Prepare what the unit needs beside its files: weights, and a program."""
    program, weights = LAYOUT.program_path("llama-server"), LAYOUT.weights_path("small", "1")
    with scratch(systemd_container, (UNIT,), (LAYOUT.absolute(LAYOUT.override_path(UNIT)), *FOLDERS)) as container:
        container.write(LAYOUT.absolute(program), WAITING)
        container.run(["chmod", "755", LAYOUT.absolute(program)])
        container.write(LAYOUT.absolute(weights), "")
        yield container


def started(machine: Container, files: Mapping[str, str]) -> int:
    """Start the unit with these files; give its main process."""
    for path, text in files.items():
        # Straight to systemd: no generation is needed for one unit.
        unit = LAYOUT.unit_at(path)
        machine.write(LAYOUT.absolute(path if unit is None else LAYOUT.override_path(unit)), text)
    machine.run(["systemctl", "daemon-reload"])
    # Forgets earlier starts too, which systemd counts.
    machine.run(["systemctl", "reset-failed", UNIT], check=False)
    machine.run(["systemctl", "restart", UNIT])
    return int(machine.run(["systemctl", "show", "-P", "MainPID", UNIT]).stdout)


NAMES = st.from_regex(r"x[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
ANY = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
TEXTS = st.text(ANY, max_size=60) | st.text(st.sampled_from("\\\"'`$%{}; bé€𝄞"), max_size=30)
# No option of llama-server takes more than 64 bits.
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = SCALARS | st.lists(INTEGERS | TEXTS, min_size=1, max_size=3)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=12))
def test_every_accepted_argument_arrives_unchanged(machine: Container, arguments: dict[str, object]) -> None:
    files = compiled(json.dumps(arguments, ensure_ascii=False))
    assume(files is not None)
    assert files is not None
    expected = [word for name in sorted(arguments) for word in argument_words(name, parse_argument(arguments[name]))]

    main_pid = started(machine, files)

    words = machine.run(["cat", f"/proc/{main_pid}/cmdline"]).stdout.split("\0")
    assert words[2:] == ["--alias", "small", *expected, ""]


def test_a_folder_below_home_is_seen_where_it_is_named_and_nothing_else(machine: Container) -> None:
    machine.write("/home/kloros/lora/adapter.gguf", "weights")
    machine.write("/home/kloros/.ssh/id_ed25519", "secret")
    files = compiled(sandbox="{read_only_paths: [/home/kloros/lora], cpu_weight: 50, io_weight: 20}")
    assert files is not None

    root = f"/proc/{started(machine, files)}/root"

    assert machine.run(["cat", f"{root}/home/kloros/lora/adapter.gguf"]).stdout == "weights"
    assert machine.run(["ls", "-A", f"{root}/home/kloros"]).stdout.split() == ["lora"]
    assert machine.run(["touch", f"{root}/home/kloros/lora/new"], check=False).returncode == 1
    assert machine.run(["systemctl", "show", "-P", "CPUWeight", UNIT]).stdout.strip() == "50"
    hidden = compiled()
    assert hidden is not None
    root = f"/proc/{started(machine, hidden)}/root"
    assert machine.run(["ls", "-A", f"{root}/home"], check=False).stdout == ""


# Tries what options of llama-server, and drivers, ask the kernel for; says what it got as its last words.
TRYING = """\
#!/usr/bin/python3
import ctypes, json, mmap, os, signal
def may(try_it):
    try:
        return try_it() is not False
    except OSError:
        return False
libc = ctypes.CDLL(None)
block = mmap.mmap(-1, 64 * 2**20)
at = ctypes.addressof(ctypes.c_char.from_buffer(block))
print(json.dumps({
    "pins": may(lambda: os.sched_setaffinity(0, os.sched_getaffinity(0))),
    "hurries": may(lambda: os.nice(-10)),
    "locks": libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(len(block))) == 0,
    "compiles": may(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
}), flush=True)
signal.pause()
"""
RELAXED = "{relax: [{directives: [MemoryDenyWriteExecute], because: the driver compiles kernels}]}"


@pytest.mark.parametrize(
    ("arguments", "sandbox", "granted"),
    [
        ("{}", "{}", set()),
        ("{numa: distribute}", "{}", {"pins"}),
        ("{prio: 2}", "{}", {"pins", "hurries"}),
        ("{mlock: true}", "{}", {"locks"}),
        ("{}", RELAXED, {"compiles"}),
    ],
)
def test_a_unit_may_do_what_its_arguments_and_relaxations_ask_for(
    machine: Container, arguments: str, sandbox: str, granted: set[str]
) -> None:
    program = LAYOUT.absolute(LAYOUT.program_path("llama-server"))
    files = compiled(arguments, sandbox)
    assert files is not None
    machine.write(program, TRYING)
    try:
        main_pid = started(machine, files)
        said = wait_for_words(machine, main_pid)
    finally:
        machine.write(program, WAITING)
    possible = granted if can_raise_limits(machine) else granted - {"hurries", "locks"}
    assert {what for what, is_granted in said.items() if is_granted} == possible
    limits = machine.run(["systemctl", "show", "-p", "LimitMEMLOCK", "-p", "LimitNICE", UNIT]).stdout.split()
    assert ("LimitMEMLOCK=infinity" in limits) is ("locks" in granted)
    # 20 less the lowest nice value; systemd.exec(5).
    assert ("LimitNICE=40" in limits) is ("hurries" in granted)


def can_raise_limits(machine: Container) -> bool:
    """Say whether process 1 has CAP_SYS_RESOURCE; without, systemd sets the nearest limit that it may."""
    status = machine.run(["cat", "/proc/1/status"]).stdout
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) & 1 << 24)


def wait_for_words(machine: Container, main_pid: int) -> dict[str, bool]:
    """Read what a process wrote to the journal, once it is there."""
    query = ["journalctl", "-q", f"_PID={main_pid}", "-o", "cat", "-n", "1", "--no-pager"]
    deadline = time.monotonic() + 20
    while not (text := machine.run(query, check=False).stdout.strip()).startswith("{"):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline
    found: dict[str, bool] = json.loads(text)
    return found
