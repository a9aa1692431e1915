"""Projects with more models than it takes to keep what a compile works out, and the ways in which they change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

from kloros_infra.compiler.emit_lock import LOCK_FILE, emit_lock
from kloros_infra.compiler.locked import lockables
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.sources import Sources
from kloros_infra.ir.lock import Lock, LockedWeights
from tests.factories import a_7b_header, some_weights

FIRST_PORT = 9100
MODELS = 12


@dataclass(frozen=True)
class ManyModels:
    """What a project says, as far as tests change it; the first model is the one whose own settings change."""

    models: int = MODELS
    cards: tuple[str, ...] = ("big", "old")
    vram_gib: int = 16
    port: int = FIRST_PORT
    context_tokens: int = 4096
    display_name: str = "First"
    placement: str = "auto"
    shares: tuple[int, ...] = ()
    cache_type: str = "f16"
    preload: bool = False
    temperature: float = 0.5
    headroom_gib: int = 1
    read_only_path: str = "/opt/driver"
    vocabulary: int = 152064
    experts: int = 0
    sha256: str = "ab" * 32
    has_draft: bool = False
    is_persona_named: bool = False
    profiles: tuple[str, ...] = ("gpu", "cpu_only")
    has_all_ports: bool = True
    """Whether a port is given under every profile; else the first model's instances may be one."""

    def sources(self) -> Sources:
        """Write models.yaml and its lock."""
        text = yaml.safe_dump(self._document(), sort_keys=False)
        parsed, problems = parse(text, file="models.yaml")
        assert parsed is not None, problems
        entries = (self._pinned(one.key, one.source) for one in lockables(parsed.config))
        files = emit_lock(Lock({entry.key: entry for entry in entries}))
        headers = {name: content for name, content in files.items() if name != LOCK_FILE}
        return Sources(text, "models.yaml", files[LOCK_FILE], LOCK_FILE, headers)

    def _pinned(self, key: str, source: tuple[str, ...]) -> LockedWeights:
        """Pin weights; the first model's are those that differ."""
        if not key.startswith("m00@"):
            return some_weights(key, source=source, header=replace(a_7b_header(), context_length=40000 + int(key[1:3])))
        header = replace(a_7b_header(), vocabulary_size=self.vocabulary, expert_count=self.experts)
        weights = some_weights(key, source=source, header=header)
        file = replace(weights.files[0], sha256=self.sha256)
        return replace(weights, files=(file,), sha256=self.sha256)

    def _document(self) -> dict[str, Any]:
        gpus = {name: self._card(name) for name in ("big", "old")}
        personas = [
            {
                "id": "pirate",
                "base_model": "m00",
                "system_prompt": "Ahoy.",
                "sampling": {"temperature": self.temperature},
            }
        ]
        return {
            "version": 1,
            "hosts": {"astraea": {"role": "local", "llama_server": "/opt/llama-server"}},
            "gpus": gpus,
            "profiles": {"gpu": {"gpus": list(self.cards)}, "half": {"gpus": ["old"]}, "cpu_only": {"gpus": []}},
            "sandbox": {"memory_headroom": f"{self.headroom_gib}GiB", "read_only_paths": [self.read_only_path]},
            "purposes": {"code": {"candidates": ["m01"], "default": True}},
            "personas": personas if self.is_persona_named else [],
            "models": [self._model(number) for number in range(self.models)],
        }

    def _card(self, name: str) -> dict[str, Any]:
        vram = self.vram_gib if name == "big" else 11
        uuid = f"GPU-{'1' if name == 'big' else '2'}a2b3c4d-0000-1111-2222-333344445555"
        facts = {"host": "astraea", "uuid": uuid, "vram": f"{vram}GiB"}
        return {**facts, "bandwidth": f"{vram * 30}GB/s", "compute_capability": "8.6"}

    def _model(self, number: int) -> dict[str, Any]:
        name, first = f"m{number:02}", FIRST_PORT + 3 * number
        ports = {"gpu": first, "half": first + 1, "cpu_only": first + 2}
        model: dict[str, Any] = {
            "id": name,
            "purpose_tags": ["code"],
            "context_tokens": 4096,
            "preload": False,
            "versions": [{"version_id": "1", "gguf_url": f"file:///weights/{name}.gguf"}],
            "profiles": {profile: {"port": ports[profile]} for profile in ("gpu", "cpu_only")},
        }
        return self._first(model, ports) if number == 0 else model

    def _first(self, model: dict[str, Any], ports: dict[str, int]) -> dict[str, Any]:
        ports = {**ports, "cpu_only": self.port + 2}
        return {
            **model,
            "display_name": self.display_name,
            "context_tokens": self.context_tokens,
            "placement": self.placement,
            "cache_type_k": self.cache_type,
            "cache_type_v": self.cache_type,
            "preload": self.preload,
            **({"draft": {"model": "m01"}} if self.has_draft else {}),
            "profiles": {profile: {**self._port(profile, ports), **self._shares(profile)} for profile in self.profiles},
        }

    def _port(self, profile: str, ports: dict[str, int]) -> dict[str, int]:
        is_given = self.has_all_ports or profile == self.profiles[0]
        return {"port": ports[profile]} if is_given else {}

    def _shares(self, profile: str) -> dict[str, Any]:
        is_shared = self.shares and profile == "gpu"
        return {"placement": "manual", "gpu_percentages": list(self.shares[: len(self.cards)])} if is_shared else {}
