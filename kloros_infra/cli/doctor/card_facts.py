"""What is asked of NVIDIA's driver and of llama-server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.cuda_build import read_build
from kloros_infra.adapters.driver_files import driver_cards
from kloros_infra.adapters.elf_file import NotElfError
from kloros_infra.adapters.llama_server_version import ask_version
from kloros_infra.adapters.nvidia_driver import read_driver
from kloros_infra.adapters.nvml_brakes import read_brakes
from kloros_infra.adapters.nvml_facts import NvmlFacts
from kloros_infra.adapters.pci import PASSED_THROUGH, PROCFS, SYSFS, present_cards
from kloros_infra.adapters.programs import Program, find_llama_server, hidden_from_units
from kloros_infra.adapters.rpc_servers import lent_cards
from kloros_infra.adapters.tensor_overrider import TensorOverrider
from kloros_infra.agent.facts import cards_of, local_cards
from kloros_infra.cli.doctor.launchers import program_of
from kloros_infra.cli.doctor.project_view import View
from kloros_infra.cli.project import read_project
from kloros_infra.cli.validating import ask_llama_server
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.stations import check_project
from kloros_infra.diagnostics import Problems
from kloros_infra.doctor.facts import Brake, Cards, Driver, Seen, Server, Unseen
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.card_facts import DeclaredCard, DriverReading

OVERRIDER_S = 8.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """Where the kernel shows itself."""

    sysfs: Path = SYSFS
    procfs: Path = PROCFS


def see_cards(view: View, kernel: Kernel) -> Cards:
    """Ask which cards are there, and NVML about those."""
    table = view.table
    cards = cards_of(table) if table else ()
    local = present_cards((card for card in cards if card.remote is None), kernel.sysfs, kernel.procfs)
    there = [card for card in local_cards(table) if card.name in local] if table else []
    reading = NvmlFacts(sysfs=kernel.sysfs, procfs=kernel.procfs).read(there) if there else DriverReading()
    on_bus = driver_cards(kernel.sysfs, kernel.procfs)
    return Cards(
        present=local | lent_cards(cards),
        reading=reading,
        brakes=_brakes(there, reading),
        unusable=tuple(f"{one.pci}: {one.obstacle}" for one in on_bus if one.obstacle),
        are_all_lent=bool(on_bus) and all(PASSED_THROUGH in one.obstacle for one in on_bus),
    )


def _brakes(cards: Sequence[DeclaredCard], reading: DriverReading) -> Seen[tuple[Brake, ...]]:
    """Ask NVML for cards that are slowed down, of those that are awake; one that did not answer is not asked again."""
    if reading.trouble or reading.is_stale:
        return Unseen(f"NVML does not answer: {reading.trouble or 'not in time'}", "See the check `nvml`.")
    awake = {one.card for one in reading.cards if one.total_bytes is not None}
    asked = [card for card in cards if card.name in awake]
    try:
        return read_brakes(asked) if asked else ()
    except OSError as error:
        return Unseen(error.strerror or str(error))


def see_driver(kernel: Kernel) -> Driver | None:
    """Read the driver's own file."""
    return read_driver(kernel.procfs)


def see_server(view: View) -> Server | None:
    """Run llama-server for its version, and read what it was built with; None where none is named."""
    try:
        program = find_llama_server(view.catalog.llama_server) if view.catalog else program_of(view.desired)
    except ObstacleError as error:
        problem = error.problems[0]
        return Server("", trouble=f"{problem.code} {problem.detail}".rstrip("."), fix=problem.hint)
    if program is None:
        return None
    hidden = hidden_from_units(program) if view.wanted.has_systemd else ()
    if hidden:
        return Server(program.path, trouble=f"{hidden[0].code} {hidden[0].detail}".rstrip("."), fix=hidden[0].hint)
    try:
        version = ask_version(program)
    except OSError as error:
        fix = f"Run `{program.path} --version` by hand to see what it lacks."
        return Server(program.path, trouble=error.strerror or str(error), fix=fix)
    return _with_build(program, version)


def _with_build(program: Program, version: str) -> Server:
    try:
        built = read_build(program)
    except NotElfError as error:
        return Server(program.path, version, cuda=Unseen(f"{program.path}: {error}", "Name the program itself."))
    return Server(program.path, version, cuda=built.cuda, other_devices=built.others)


def see_options(view: View) -> Problems:
    """Hold the options of models.yaml to this llama-server; raise OSError where it cannot be asked."""
    if view.file is None:
        return ()
    problems = ask_llama_server(check_project(compiler_sources(read_project(view.file))).parsed)
    errors = tuple(problem for problem in problems if problem.is_error)
    if problems and not errors:
        raise OSError(0, problems[0].detail.rstrip("."))
    return errors


def see_overrider(view: View) -> str:
    """Ask the external tool for its version; raise UnreachableError where it does not run."""
    words = view.catalog.tensor_overrider if view.catalog else ()
    return TensorOverrider(words, timeout_s=OVERRIDER_S).version() if words else ""
