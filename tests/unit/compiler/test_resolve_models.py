"""Models, personas and the sandbox as the Catalog has them: what is bound, and in which shape."""

from __future__ import annotations

import json
from typing import Any

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.ir.catalog import Catalog, CostTier, Draft, Persona, Sandbox
from kloros_infra.ir.relaxation import Relaxation, SandboxDirective
from tests.factories import GIB, a_lock_for

TEXT = """\
version: 1
hosts: {box: {}}
gpus:
  one: {host: box, pci: "0000:04:00.0", vram: 12GiB, bandwidth: 360GB/s, compute_capability: "8.6"}
  two: {host: box, pci: "0000:07:00.0", vram: 12GiB, bandwidth: 360GB/s, compute_capability: "8.6"}
profiles:
  max: {gpus: [two, one]}
  cpu_only: {gpus: []}
models:
  - id: large
    display_name: Large
    kind: vision
    purpose_tags: [deep]
    context_tokens: 2048
    cost_tier: high
    chat_template: chatml
    draft: {model: small, max_tokens: 8, min_tokens: 1, min_probability: 0.5}
    versions:
      - {version_id: "1", gguf_url: file:///w/large.gguf, mmproj_url: file:///w/mmproj.gguf}
    profiles:
      max: {port: 8601, placement: manual, layers: {one: 20}}
      cpu_only: {port: 8602}
  - id: small
    display_name: Small
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    current_version: "2"
    versions:
      - {version_id: "1", gguf_url: file:///w/small-1.gguf}
      - {version_id: "2", gguf_url: file:///w/small-2.gguf}
    profiles:
      cpu_only: {port: 8603}
personas:
  - id: plain
    base_model: small
    response_format: {type: text}
  - id: formal
    base_model: small
    aliases: ["formal:7b"]
    display_name: Formal
    response_format: {type: json_schema, json_schema: {type: object}}
    tools:
      - {name: read_file, description: Read a file., parameters: {type: object}}
  - id: loose
    base_model: small
    response_format: {type: json_object}
sandbox: {read_only_paths: [/srv/lora], memory_headroom: 2GiB, cpu_weight: 50}
observability: {log_level: warning}
"""


def resolved(text: str = TEXT) -> Catalog:
    found, problems = parse(text, file="models.yaml")
    assert found is not None, problems
    catalog, problems = resolve(found, a_lock_for(found.config))
    assert catalog is not None, problems
    return catalog


def test_a_model_says_no_more_than_it_must() -> None:
    bare = TEXT.replace("    display_name: Small\n    purpose_tags: [fast]\n", "").replace("    cost_tier: low\n", "")
    _, small = resolved(bare).models

    assert (small.display_name, small.purpose_tags) == ("small", ())
    assert small.cost_tier is CostTier.of_weights(small.weights.size_bytes)


def test_the_only_version_is_the_one_in_use() -> None:
    large, small = resolved().models

    assert (large.version_id, large.weights.key) == ("1", "large@1")
    assert (small.version_id, small.weights.key) == ("2", "small@2")


def test_what_is_loaded_beside_a_model_is_bound_to_the_lock() -> None:
    large, small = resolved().models

    assert large.projector is not None
    assert large.projector.key == "large@1+mmproj"
    assert large.draft == Draft("small", "2", small.weights, max_tokens=8, min_tokens=1, min_probability=0.5)
    assert (large.chat_template, small.chat_template) == ("chatml", None)
    assert (small.projector, small.draft) == (None, None)


def test_layers_stand_in_the_profile_s_order_of_cards() -> None:
    on_cards, on_cpu, _ = resolved().instances

    assert (on_cards.layers, on_cpu.layers) == ((0, 20), None)


def test_personas_have_forms_and_tools_as_a_request_carries_them() -> None:
    plain, formal, loose = resolved().personas

    def form(persona: Persona) -> Any:
        return json.loads(persona.response_format or "null")

    assert (plain.response_format, plain.tools) == (None, None)
    assert form(formal) == {"type": "json_schema", "json_schema": {"name": "formal", "schema": {"type": "object"}}}
    assert form(loose) == {"type": "json_object"}
    function = {"name": "read_file", "description": "Read a file.", "parameters": {"type": "object"}}
    assert json.loads(formal.tools or "") == [{"type": "function", "function": function}]


def test_personas_have_names_for_people() -> None:
    plain, formal, _ = resolved().personas

    assert (plain.display_name, plain.aliases) == ("plain", ())
    assert (formal.display_name, formal.aliases) == ("Formal", ("formal:7b",))


def test_the_sandbox_and_the_log_level_are_taken_over() -> None:
    catalog = resolved()

    assert catalog.sandbox == Sandbox(
        ("/srv/lora",), memory_headroom_bytes=2 * GIB, cpu_weight=50, io_weight=None, exposure_limit=1.5
    )
    assert catalog.log_level == "warning"


def test_relaxations_and_the_version_of_systemd_are_taken_over() -> None:
    relax = "relax: [{directives: [UMask, ProtectProc], because: perf reads it}]"
    text = TEXT.replace("    context_tokens: 2048\n    cost_tier: low\n", f"    context_tokens: 2048\n    {relax}\n")
    text = text.replace("box: {}", "box: {systemd: 257}").replace("cpu_weight: 50", f"cpu_weight: 50, {relax}")
    catalog = resolved(text)
    given = (Relaxation((SandboxDirective.UMASK, SandboxDirective.PROTECT_PROC), "perf reads it"),)

    assert catalog.systemd_version == 257
    assert catalog.sandbox.relaxed == given
    assert [model.relaxed for model in catalog.models] == [(), given]
