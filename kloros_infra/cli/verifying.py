"""Hold placements against what the real llama-server says that they need, before it loads any weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.local_files import LocalFiles
from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.packages import PackageFiles
from kloros_infra.adapters.programs import find_llama_server
from kloros_infra.adapters.rpc_servers import SocketRpcServers
from kloros_infra.cli.placements import Placed, View
from kloros_infra.cli.wiring import Target, weights_store
from kloros_infra.compiler.emit_command import argument_words
from kloros_infra.compiler.emit_env import loading_variables
from kloros_infra.compiler.placing import located
from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.errors import UnreachableError
from kloros_infra.executor.rpc_readiness import Patience, await_servers
from kloros_infra.ir.gate import expected_cards
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.stored_weights import model_files
from kloros_infra.placement.card_check import other_cards
from kloros_infra.placement.engines.interface import FIT
from kloros_infra.placement.memory_breakdown import breakdown_problems, seen_devices
from kloros_infra.placement.problems import address_of

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Places:
    """Where weights may be: in the store of a target, or in a file that was named."""

    target: Target
    named: Path | None = None

    def find(self, placed: Placed) -> Path | None:
        """Find the file that a server of this instance would be given; None where it is not on this machine."""
        if self.named is not None:
            return self.named
        stored = model_files(placed.instance.model, self.target.layout).own
        if stored.path in weights_store(self.target).verified():
            return self.target.root / stored.path
        return _at_its_source(stored.weights)


def _at_its_source(weights: LockedWeights) -> Path | None:
    """Find weights that are read where they are; the parts of a split GGUF lie beside its first."""
    url = weights.source[0]
    for source in (PackageFiles(), LocalFiles()):
        if source.handles(url) and source.is_reachable(url, weights.revision):
            return source.locate(url, weights.revision)
    return None


@dataclass(frozen=True, slots=True)
class Verified:
    """What is not as planned, and what could not be asked."""

    differing: Problems
    unasked: Problems

    @property
    def problems(self) -> Problems:
        return (*self.differing, *self.unasked)

    @property
    def exit_code(self) -> int:
        if self.differing:
            return 2
        return 1 if self.unasked else 0


def verified(view: View, found: Iterable[Placed], places: Places, tell: Callable[[str], None]) -> Verified:
    """Ask for one placement after the other, and tell of each; raise ObstacleError where there is no llama-server."""
    server = LlamaServerMemory(find_llama_server(view.catalog.llama_server))
    differing: list[Diagnostic] = []
    unasked: list[Diagnostic] = []
    for one in found:
        if one.placement.engine == FIT:
            tell(f"{one.instance.id}: llama-server itself places it when it starts; there is no plan to verify")
            continue
        try:
            measured = _measured(one, server, places)
        except UnreachableError as error:
            unasked += (replace(problem, address=address_of(one.instance)) for problem in error.problems)
            continue
        problems = _compared(one, measured)
        differing += problems
        tell(f"{one.instance.id}: {'NOT ' if problems else ''}as planned: {_figures(one.placement, measured)}")
    return Verified(_located(differing, view), _located(unasked, view))


def _measured(placed: Placed, server: LlamaServerMemory, places: Places) -> tuple[MeasuredLoad, ...]:
    """Ask for one placement; raise UnreachableError where it cannot be asked for."""
    file = places.find(placed)
    if file is None:
        raise UnreachableError([_no_weights(placed)])
    # llama-server waits without a word for a server that is taken; killed there, it takes that server down with it.
    away = await_servers(placed.placement.endpoints, SocketRpcServers(), SystemClock(), Patience(limit_s=0))
    if away:
        raise UnreachableError(away)
    return server.measured(file, _variables(placed), _words(placed))


def _compared(placed: Placed, measured: tuple[MeasuredLoad, ...]) -> Problems:
    """Hold a placement against what was said: whether these are its cards first, as it explains the rest."""
    address = address_of(placed.instance)
    expected = expected_cards(placed.placement, placed.instance.profile)
    return (
        *other_cards(expected, seen_devices(measured), address),
        *breakdown_problems(placed.placement, measured, address),
    )


def _located(problems: list[Diagnostic], view: View) -> Problems:
    return located(tuple(problems), view.parsed, view.catalog)


def _variables(placed: Placed) -> dict[str, str]:
    return loading_variables(placed.instance, placed.placement)


def _words(placed: Placed) -> tuple[str, ...]:
    return tuple(word for name, value in placed.instance.serving.arguments for word in argument_words(name, value))


def _figures(placement: Placement, measured: Iterable[MeasuredLoad]) -> str:
    """Name both figures for each device."""
    needed = {one.device: one.used_mib for one in measured}
    return ", ".join(
        f"{load.card or load.device} {needed.get(load.device, 0)} MiB "
        f"({(load.total_bytes - load.extra_bytes) // MIB} foreseen)"
        for load in placement.loads
    )


def _no_weights(placed: Placed) -> Diagnostic:
    weights = placed.instance.model.weights
    return Diagnostic(
        code="KI444",
        summary="Weights not here",
        detail=f"{placed.instance.id} was not verified: its weights ({', '.join(weights.source)}) are neither in the "
        "store nor anywhere else on this machine. llama-server reads their header, which the lock alone cannot give.",
        hint="Bring them here with `kloros-infra apply` or `modelctl pull`, name the --root whose store has them, or "
        "give --weights FILE.gguf.",
        severity=Severity.WARNING,
        address=address_of(placed.instance),
    )
