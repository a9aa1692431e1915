"""Ollama stores in the form that Ollama itself writes: manifests by name, layers by their sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PREFIX = "application/vnd.ollama.image."
CONFIG = "application/vnd.docker.container.image.v1+json"


class StoreBuilder:
    """Writes a store below a folder, as `ollama pull` and `ollama create` leave it (manifest/manifest.go, layer.go)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)
        (folder / "manifests").mkdir()

    def layer(self, kind: str, data: bytes) -> dict[str, Any]:
        """Keep a layer's bytes; give the entry that a manifest has for it."""
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs" / f"sha256-{sha256}").write_bytes(data)
        media_type = CONFIG if kind == "config" else f"{PREFIX}{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": len(data)}

    def manifest(self, name: str, text: str) -> Path:
        """Write a manifest's text, whatever it is, by its four-part name."""
        file = self.folder / "manifests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def model(  # each part of a Modelfile is one argument
        self,
        name: str,
        weights: bytes | None,
        *,
        projector: bytes | None = None,
        adapter: bytes | None = None,
        template: str = "",
        system: str = "",
        parameters: Mapping[str, Any] | None = None,
        messages: Sequence[Mapping[str, str]] = (),
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a model: `name` is `<host>/<namespace>/<model>/<tag>`."""
        written = {
            "model": weights,
            "projector": projector,
            "adapter": adapter,
            "template": template.encode() or None,
            "system": system.encode() or None,
            "params": json.dumps(parameters).encode() if parameters is not None else None,
            "messages": json.dumps(messages).encode() if messages else None,
            "license": b"Apache-2.0",
        }
        layers = [self.layer(kind, data) for kind, data in written.items() if data is not None]
        details = {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "134.52M",
            "file_type": "Q4_1",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            **(config or {}),
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": self.layer("config", json.dumps(details).encode()),
            "layers": layers,
        }
        return self.manifest(name, json.dumps(manifest) + "\n")


LIBRARY = "registry.ollama.ai/library"
