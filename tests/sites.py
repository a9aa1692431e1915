"""A small site in the shape that compile emits, to plan and apply without compiling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kloros_infra.compiler.emit_routing import emit_routing
from kloros_infra.ir.artifact import Artifact, ArtifactTree, Link, TextFile
from kloros_infra.ir.catalog import Catalog, Instance, Purpose
from kloros_infra.ir.generation import History, Run
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Origin, weights_key
from kloros_infra.ir.names import BUS_UNIT, LLM_TARGET, PROFILE_UNIT, ROUTER_UNIT, profile_target
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.requests import Priority
from kloros_infra.planner.desired import Desired, desired_state
from kloros_infra.planner.file_changes import installed_tree
from kloros_infra.planner.generation_changes import manifest_of
from tests.factories import a_bus, a_catalog, a_model, a_profile, a_serving, an_instance, some_weights

LAYOUT = Layout()


@dataclass(frozen=True)
class MiniModel:
    """What a site says of one model; `ports` by profile."""

    name: str
    ports: Mapping[str, int]
    context: int = 16000
    version: str = "1"
    preload: bool = True
    is_derived: bool = False
    memory: str = "8G"
    description: str = "a model"
    vram: str = ""
    on_change: str = ""
    pinned: str = ""
    """The digest of its weights, as its unit has it."""
    service: str = ""
    """Further lines of [Service]."""


@dataclass(frozen=True)
class Site:
    """A models.yaml in miniature."""

    models: tuple[MiniModel, ...] = (
        MiniModel("code", {"max": 8601, "mid": 8602}),
        MiniModel("chat", {"max": 8611, "mid": 8612}),
    )
    profile: str = "max"
    llama_server: str = "/opt/llama.cpp/llama-server"
    with_bus: bool = True
    router_memory: str = "512M"
    extra: Mapping[str, str] = field(default_factory=dict)
    gigabytes: int = 4
    purposes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """With purposes the routing table is a whole one, otherwise one that only says what differs between models."""

    def catalog(self) -> Catalog:
        """Build the catalog that the compiler would resolve."""
        instances = tuple(self._instance(model, profile) for model in self.models for profile in sorted(model.ports))
        profiles = tuple(a_profile(name) for name in ("max", "mid"))
        purposes = tuple(
            Purpose(name, tuple(candidates), None, is_default=False, priority=Priority.INTERACTIVE)
            for name, candidates in self.purposes.items()
        )
        return a_catalog(*instances, profiles=profiles, purposes=purposes, bus=a_bus(is_managed=self.with_bus))

    def _instance(self, mini: MiniModel, profile: str) -> Instance:
        key = weights_key(mini.name, mini.version)
        weights = some_weights(
            key, size_bytes=self.gigabytes * 10**9, origin=Origin.DERIVED if mini.is_derived else Origin.FILE
        )
        model = a_model(mini.name, version_id=mini.version, weights=weights)
        serving = a_serving(preload=mini.preload)
        return an_instance(model, a_profile(profile), port=mini.ports[profile], serving=serving)

    def tree(self) -> ArtifactTree:
        """Emit the files, launchers included."""
        tree: dict[str, Artifact] = {}
        for model in self.models:
            tree |= self._instance_files(model)
        for unit, words in self._services().items():
            tree[LAYOUT.unit_path(unit)] = TextFile(
                f"[Unit]\nDescription={unit}\n[Service]\nType=exec\nMemoryMax={self.router_memory}\n"
                f"ExecStart=:/{LAYOUT.program_path('kloros-infra')} {words}\n"
            )
        for profile in ("max", "mid"):
            tree[LAYOUT.unit_path(profile_target(profile))] = TextFile(f"[Unit]\nDescription={profile}\n")
        tree[LAYOUT.unit_path(LLM_TARGET)] = TextFile(f"[Unit]\nWants={' '.join(self._services())}\n")
        tree[LAYOUT.unit_path(f"multi-user.target.wants/{LLM_TARGET}")] = Link(f"../{LLM_TARGET}")
        tree[LAYOUT.program_path("llama-server")] = TextFile(f'#!/bin/sh\nexec {self.llama_server} "$@"\n', 0o755)
        tree[LAYOUT.program_path("kloros-infra")] = TextFile('#!/bin/sh\nexec python3 -m kloros_infra "$@"\n', 0o755)
        routes = {"version": 1, "models": [self._route(m) for m in self.models]}
        tree[LAYOUT.routing] = TextFile(emit_routing(self.catalog(), LAYOUT) if self.purposes else json.dumps(routes))
        return tree | {path: TextFile(text) for path, text in self.extra.items()}

    def _services(self) -> dict[str, str]:
        bus = {BUS_UNIT: "bus"} if self.with_bus else {}
        return bus | {ROUTER_UNIT: "router", PROFILE_UNIT: "profile start"}

    @staticmethod
    def _route(model: MiniModel) -> dict[str, object]:
        return {"id": model.name, "context_tokens": model.context, "ports": sorted(model.ports.values())}

    @staticmethod
    def _instance_files(model: MiniModel) -> dict[str, TextFile]:
        files: dict[str, TextFile] = {}
        for profile, port in sorted(model.ports.items()):
            env = (
                f"LLAMA_ARG_CTX_SIZE='{model.context}'\nLLAMA_ARG_PORT='{port}'\n"
                f"LLAMA_ARG_MODEL='/{LAYOUT.weights_path(model.name, model.version)}'\n"
            )
            name = f"{model.name}-{profile}"
            env_path = f"{LAYOUT.env}/{name}.{hashlib.sha256(env.encode()).hexdigest()[:8]}.env"
            others = (other for other in sorted(model.ports) if other != profile)
            rivals = " ".join(f"llama@{model.name}-{other}.service" for other in others)
            vram = f"X-Kloros-Weights=sha256:{model.pinned}\n" if model.pinned else ""
            vram += f"X-Kloros-Vram={model.vram}\n" if model.vram else ""
            vram += f"Conflicts={rivals}\n" if rivals else ""
            on_change = f"X-Kloros-OnChange={model.on_change}\n" if model.on_change else ""
            unit = (
                f"# Generated\n[Unit]\nDescription={model.description}\nPartOf={LLM_TARGET}\n{vram}{on_change}"
                f"[Service]\nType=exec\nEnvironmentFile=/{env_path}\nMemoryMax={model.memory}\n"
                f"ExecStart=:/{LAYOUT.program_path('llama-server')} --alias {model.name}\n{model.service}"
            )
            files |= {env_path: TextFile(env), LAYOUT.unit_path(f"llama@{name}.service"): TextFile(unit)}
        return files

    def desired(self) -> Desired:
        """Build what plan compares."""
        return desired_state(self.catalog(), self.tree(), layout=LAYOUT, profile=self.profile)


def untouched() -> Observed:
    """A machine that we never applied anything to."""
    return Observed(files={}, installed=Installed(), weights={}, units={})


def stopped(*units: str) -> dict[str, UnitState]:
    """States of units that do not run."""
    return {unit: UnitState(unit, ActiveState.INACTIVE) for unit in units}


def fresh(desired: Desired) -> Observed:
    """A machine without us whose service manager was asked."""
    return Observed({}, Installed(), {}, stopped(*(unit.unit for unit in desired.units)))


def converged(desired: Desired) -> Observed:
    """The machine after everything that is desired was applied."""
    states = {}
    for pid, unit in enumerate(desired.units, start=100):
        active = ActiveState.ACTIVE if unit.run is Run.ALWAYS else ActiveState.INACTIVE
        states[unit.unit] = UnitState(unit.unit, active, main_pid=pid if active is ActiveState.ACTIVE else 0)
    return Observed(
        files=dict(desired.tree),
        installed=Installed(installed_tree(desired.tree)),
        history=History((1,), 1, 1),
        manifest=manifest_of(desired, 1),
        weights={step.destination: step.sha256 for step in desired.weights},
        units=states,
    )
