"""models.yaml exactly as the operator wrote it: frozen, closed, constraints on the types.

One declaration per setting: type, default, what it does, example. Defaults that depend on another part of the file are
None here and are applied once, in `compiler.resolve`. The sections are declared in the modules `ir.config_*`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kloros_infra.ir.config_machine import GpuSpec, HostSpec, ProfileSpec
from kloros_infra.ir.config_models import DefaultsSpec, ModelSpec
from kloros_infra.ir.config_requests import PersonaSpec, PoliciesSpec, PurposeSpec
from kloros_infra.ir.config_services import BridgeSpec, BusSpec, ObservabilitySpec, SandboxSpec, StorageSpec
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import Name, ProfileName


class Config(Spec):
    """The whole of models.yaml."""

    version: Annotated[Literal[1], about("The version of this language.", 1)]
    hosts: Annotated[
        dict[Name, HostSpec],
        Field(min_length=1),
        about("Machines by name; one is local.", {"astraea": {"role": "local"}}),
    ]
    gpus: Annotated[
        dict[Name, GpuSpec], about("Cards by name.", {"rtx3060": {"host": "astraea", "vram": "12GiB"}})
    ] = {}
    profiles: Annotated[
        dict[ProfileName, ProfileSpec],
        Field(min_length=1),
        about("Sets of cards by name, best first.", {"max": {"gpus": ["rtx3060"]}, "cpu_only": {"gpus": []}}),
    ]
    defaults: Annotated[DefaultsSpec, about("Values for whoever does not say otherwise.", {"parallel": 2})] = (
        DefaultsSpec()
    )
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1), about("The models.", [{"id": "qwen2.5-7b"}])]
    personas: Annotated[
        tuple[PersonaSpec, ...], about("System prompts and sampling over models.", [{"id": "kloros-voice"}])
    ] = ()
    purposes: Annotated[
        dict[Name, PurposeSpec],
        about("What requests may be for.", {"fast": {"candidates": ["qwen2.5-7b"], "default": True}}),
    ] = {}
    policies: Annotated[PoliciesSpec, about("Who may do what.", {"unknown_clients": "refuse"})] = PoliciesSpec()
    bus: Annotated[BusSpec, about("Where ChemBus is.", {"managed": False})] = BusSpec()
    bridge: Annotated[BridgeSpec, about("Where the HTTP bridge listens.", {"ports": [11434]})] = BridgeSpec()
    sandbox: Annotated[SandboxSpec, about("What units may do.", {"cpu_weight": 50})] = SandboxSpec()
    observability: Annotated[ObservabilitySpec, about("What can be seen from outside.", {"log_level": "info"})] = (
        ObservabilitySpec()
    )
    storage: Annotated[StorageSpec, about("Where things are kept.", {"keep_versions": 2})] = StorageSpec()
