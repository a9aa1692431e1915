"""What `init` found on a machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FoundCard:
    """An NVIDIA card as far as the machine tells; None is not known.

    `obstacle` says why no process here can use it; empty when one can.
    """

    name: str | None = None
    uuid: str | None = None
    pci: str | None = None
    vram_bytes: int | None = None
    bandwidth_bytes_per_s: int | None = None
    compute_capability: tuple[int, int] | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class FoundOllama:
    """An Ollama store and the models in it, by the names that `ollama list` shows."""

    store: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Everything that the first models.yaml is made of.

    `llama_servers` and `packaged_weights` are references as models.yaml writes them, the best first; `today` is an ISO
    date.
    """

    host_name: str
    processor: str
    thread_count: int
    memory_bytes: int
    today: str
    cards: tuple[FoundCard, ...] = ()
    llama_servers: tuple[str, ...] = ()
    packaged_weights: frozenset[str] = frozenset()
    ollama: FoundOllama | None = None
    ports_in_use: frozenset[int] = frozenset()
    systemd_version: int | None = None
