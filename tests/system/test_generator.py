"""The generator under a real systemd: units come from one generation, and a switch takes effect at a reload, whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_generator import emit_generator
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.system.container import Container

pytestmark = pytest.mark.system

PREFIX = "/etc/kloros-generator-test"
HOME = f"{PREFIX}/etc/kloros-infra"
CURRENT = f"{PREFIX}/{Layout().current}"
UNITS = tuple(f"kloros-generated@unit-{number}.service" for number in range(30))
TARGET = "kloros-generated.target"
GENERATOR = "/etc/systemd/system-generators/kloros-infra-test"
FLIP = f'ln -s generations/"$1" {CURRENT}.new.$$ && mv -T {CURRENT}.new.$$ {CURRENT}'
STOP = f"{HOME}/stop"
# Switches back and forth until told to stop, each time in one step.
FLIPPING = f"""
while [ ! -e {STOP} ]; do
    for generation in 1 2 3; do
        ln -s generations/$generation {CURRENT}.new && mv -T {CURRENT}.new {CURRENT}
    done
done
"""

# What a generator must not do: ask for each unit which generation is current.
ONE_BY_ONE = f"""#!/bin/sh
PATH=/usr/bin:/bin
for unit in $(ls {CURRENT}/units); do
    HERE
    ln -s "$(readlink -f {CURRENT}/units/"$unit")" "$1/$unit"
done
"""


def emitted() -> str:
    """Give the generator as apply installs it."""
    ((_, artifact),) = emit_generator(rendering(read_templates(), Layout(prefix=PREFIX)))
    assert isinstance(artifact, TextFile)
    return artifact.text


def put_generator(machine: Container, text: str) -> None:
    machine.write(GENERATOR, text)
    machine.run(["chmod", "755", GENERATOR])


def a_generation(machine: Container, number: int) -> None:
    """Write a generation whose units say which one they are of; the first is a process that waits."""
    units = f"{HOME}/generations/{number}/units"
    script = [f"mkdir -p {units}/multi-user.target.wants"]
    for unit in UNITS:
        text = f"[Unit]\\nDescription=generation {number}\\n[Service]\\nExecStart=/bin/sleep 300\\n"
        script.append(f"printf '{text}' > {units}/{unit}")
    script.append(f"printf '[Unit]\\nDescription=generation {number}\\n' > {units}/{TARGET}")
    script.append(f"ln -s ../{TARGET} {units}/multi-user.target.wants/{TARGET}")
    machine.run(["sh", "-e"], text="\n".join(script))


@pytest.fixture(scope="module")
def machine(systemd_container: Container) -> Iterator[Container]:
    """Give systemd the generator and three generations; take both away afterwards."""
    put_generator(systemd_container, emitted())
    for number in (1, 2, 3):
        a_generation(systemd_container, number)
    yield systemd_container
    systemd_container.run(["systemctl", "stop", *UNITS], check=False)
    systemd_container.run(["rm", "-rf", PREFIX, GENERATOR])
    systemd_container.run(["systemctl", "daemon-reload"])


def flip(machine: Container, generation: int) -> None:
    machine.run(["sh", "-c", FLIP, "sh", str(generation)])


def reload(machine: Container) -> None:
    machine.run(["systemctl", "daemon-reload"])


def generations_seen(machine: Container) -> set[str]:
    """Say of which generations the units are that systemd has, by what it read and by what it links."""
    shown = machine.run(["systemctl", "show", "-P", "Description", *UNITS, TARGET]).stdout.split("\n\n")
    linked = machine.run(["sh", "-c", 'readlink -f "$1"/kloros-generated*', "sh", "/run/systemd/generator"]).stdout
    found = re.findall(r"generations/(\d+)/units/", linked)
    assert len(found) == len(UNITS) + 1
    descriptions = {line.strip().removeprefix("generation ") for line in shown}
    assert len(shown) == len(UNITS) + 1
    return descriptions | set(found)


def test_a_generation_is_seen_after_a_reload_and_wanted_at_boot(machine: Container) -> None:
    flip(machine, 1)
    reload(machine)
    assert generations_seen(machine) == {"1"}
    wanted = machine.run(["systemctl", "show", "-P", "Wants", "multi-user.target"]).stdout
    assert TARGET in wanted.split()
    said = machine.run(["journalctl", "-q", "-b", "-p", "warning", "-g", "system-generators"], check=False)
    assert "kloros-infra" not in said.stdout


def test_a_running_unit_keeps_its_process_over_a_switch_and_a_reload(machine: Container) -> None:
    flip(machine, 1)
    reload(machine)
    machine.run(["systemctl", "start", UNITS[0]])
    before = machine.run(["systemctl", "show", "-P", "MainPID", UNITS[0]]).stdout
    flip(machine, 2)
    # Until the reload nothing has changed, also for units that do not run.
    assert generations_seen(machine) == {"1"}
    reload(machine)
    assert generations_seen(machine) == {"2"}
    assert machine.run(["systemctl", "show", "-P", "MainPID", UNITS[0]]).stdout == before != "0\n"


@pytest.mark.parametrize("is_reloaded", [True, False])
def test_the_generation_before_can_go_only_after_a_reload(machine: Container, *, is_reloaded: bool) -> None:
    flip(machine, 1)
    reload(machine)
    flip(machine, 2)
    if is_reloaded:
        reload(machine)
    machine.run(["rm", "-rf", f"{HOME}/generations/1"])
    # No unit differs, as with an apply that changes routes alone; it is one that nobody has started yet.
    started = machine.run(["systemctl", "start", UNITS[7]], check=False)
    machine.run(["systemctl", "stop", UNITS[7]], check=False)
    a_generation(machine, 1)
    reload(machine)
    assert (started.returncode == 0) is is_reloaded, started.stderr


@contextmanager
def flipping(machine: Container) -> Iterator[None]:
    """Let the link change all the time."""
    machine.run(["rm", "-f", STOP])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machine.run, ["sh"], text=FLIPPING)
        try:
            yield
        finally:
            machine.run(["touch", STOP])
            running.result()


def test_reloads_while_the_link_changes_never_mix_two_generations(machine: Container) -> None:
    with flipping(machine):
        for _ in range(12):
            reload(machine)
            assert len(generations_seen(machine)) == 1


def test_twelve_switches_with_their_reloads_at_once_never_mix_two_generations(machine: Container) -> None:
    def switch(number: int) -> None:
        flip(machine, number % 3 + 1)
        reload(machine)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(switch, range(12)))
    assert len(generations_seen(machine)) == 1


@pytest.fixture
def one_by_one(machine: Container) -> Iterator[str]:
    """Lend the machine to the other kind of generator, which is given to be changed."""
    yield ONE_BY_ONE
    put_generator(machine, emitted())


def test_a_switch_while_the_generator_runs_is_seen_whole_or_not_at_all(machine: Container, one_by_one: str) -> None:
    """A switch in the very middle, in this generator and in one that would mix: the tests above can fail."""
    switch = FLIP.replace('"$1"', "2")
    flip(machine, 1)
    resolved = next(line for line in emitted().splitlines() if line.startswith("units="))
    put_generator(machine, emitted().replace(resolved, f"{resolved}\n{switch}"))
    reload(machine)
    assert generations_seen(machine) == {"1"}
    reload(machine)
    assert generations_seen(machine) == {"2"}

    flip(machine, 1)
    put_generator(machine, one_by_one.replace("HERE", f'[ "$unit" != {UNITS[15]} ] || {{ {switch}; }}'))
    reload(machine)
    assert generations_seen(machine) == {"1", "2"}


def test_under_the_same_load_units_that_are_asked_for_one_by_one_do_mix(machine: Container, one_by_one: str) -> None:
    put_generator(machine, one_by_one.replace("HERE", ""))

    def is_mixed_after_a_reload() -> bool:
        reload(machine)
        return len(generations_seen(machine)) > 1

    with flipping(machine):
        assert any(is_mixed_after_a_reload() for _ in range(12))


def test_without_a_generation_there_are_no_units_and_no_complaints(machine: Container) -> None:
    machine.run(["rm", "-f", CURRENT])
    done = machine.run(["systemctl", "daemon-reload"])
    assert (done.stdout, done.stderr) == ("", "")
    listed = machine.run(["sh", "-c", "ls /run/systemd/generator"]).stdout
    assert "kloros-generated" not in listed
