"""Small configs, as the parser gives them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec

A_SOURCE = "hf://owner/small-GGUF/small-7b-q4_0.gguf"


def a_spec(
    id: str = "small-7b", *, versions: Sequence[str] = ("1",), source: str = A_SOURCE, **facts: Any
) -> ModelSpec:
    """Build a model with versions of one source."""
    model = {
        "id": id,
        "display_name": id,
        "purpose_tags": ["chat"],
        "context_tokens": 2048,
        "cost_tier": "low",
        "versions": [{"version_id": version, "gguf_url": source} for version in versions],
        "profiles": {"cpu_only": {"port": 8601}},
        **facts,
    }
    return ModelSpec.model_validate_json(json.dumps(model))


def a_config(*models: ModelSpec, **sections: Any) -> Config:
    """Build a config of one host, with a card and without."""
    document = {
        "version": 1,
        "hosts": {"here": {}},
        "gpus": {
            "card": {
                "host": "here",
                "pci": "0000:01:00.0",
                "vram": "8GiB",
                "bandwidth": "100GB/s",
                "compute_capability": "8.6",
            }
        },
        "profiles": {"max": {"gpus": ["card"]}, "cpu_only": {"gpus": []}},
        "models": [json.loads(a_spec().model_dump_json(exclude_defaults=True))],
        **sections,
    }
    return Config.model_validate_json(json.dumps(document)).model_copy(update={"models": models})
