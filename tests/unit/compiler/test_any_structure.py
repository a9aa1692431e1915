"""Whatever a models.yaml and its lock hold, checking them ends with a catalog or with problems, never otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.sources import Sources
from kloros_infra.compiler.stations import check_project
from kloros_infra.diagnostics import has_errors
from tests.factories import a_gguf_header, a_lock_for
from tests.models_yaml_trees import JUNK, as_yaml, mistaken, models_yaml

pytestmark = pytest.mark.untraced

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def sources(text: str, lock: Any) -> Sources:
    """Give a text with its lock, whole or after a mistake; `lock` changes the lock's tree."""
    parsed, _ = parse(text, file="models.yaml")
    if parsed is None:
        return Sources(text, "models.yaml", None, LOCK_FILE, {})
    texts = emit_lock(a_lock_for(parsed.config, header=a_gguf_header()))
    headers = {name: one for name, one in texts.items() if name.startswith(HEADERS_FOLDER)}
    return Sources(text, "models.yaml", texts[LOCK_FILE] if lock is None else as_yaml(lock), LOCK_FILE, headers)


def check(text: str, lock: Any = None) -> None:
    """Check a project; hold what comes of it to what every caller counts on."""
    given_texts = sources(text, lock)
    checked = check_project(given_texts)
    lines = {"models.yaml": text.count("\n") + 1, LOCK_FILE: (given_texts.lock_text or "").count("\n") + 1}

    for problem in checked.problems:
        assert problem.summary
        assert problem.detail
        assert problem.hint
        assert problem.span is None or 1 <= problem.span.line <= lines[problem.span.file]
    if not has_errors(checked.problems):
        assert checked.catalog is not None
        assert {one.id for one in checked.catalog.instances} == checked.placements.keys()
    event("wrong values" if checked.parsed is None else "wrong otherwise" if has_errors(checked.problems) else "right")


@PATIENT
@given(models_yaml())
def test_any_tree_of_settings_gives_a_catalog_or_problems(tree: Any) -> None:
    check(as_yaml(tree))


@PATIENT
@given(JUNK)
def test_any_tree_of_anything_gives_problems(tree: Any) -> None:
    check(as_yaml(tree))


# Every section that binds one value to another, with nothing wrong in it.
SOUND_TEXT = """
version: 1
hosts: {a: {}, b: {role: remote, address: 100.64.0.7, upstream: {kind: ollama, port: 11434, models: {far: "far:1b"}}}}
gpus:
  big: {host: a, pci: "0000:01:00.0", vram: 24GiB, bandwidth: 900GB/s, compute_capability: "8.6"}
  old: {host: a, pci: "0000:02:00.0", vram: 8GiB, bandwidth: 300GB/s, compute_capability: "6.1"}
profiles: {max: {gpus: [big, old]}, mid: {gpus: [old]}, cpu_only: {gpus: []}}
defaults: {parallel: 2, reserve: 1GiB, arguments: {threads: 8}}
models:
  - {id: chat, display_name: Chat, purpose_tags: [chat], context_tokens: 2048, cost_tier: low, current_version: "2",
     aliases: ["chat:1b"], draft: {model: small}, arguments: {no-mmap: true},
     versions: [{version_id: "1", gguf_url: file:///w/1.gguf}, {version_id: "2", gguf_url: file:///w/2.gguf}],
     profiles: {max: {port: 8601, gpu_percentages: [80, 20]}, mid: {port: 8602}, cpu_only: null}}
  - {id: small, display_name: Small, purpose_tags: [chat], context_tokens: 2048, cost_tier: low,
     versions: [{version_id: "1", gguf_url: file:///w/small.gguf}],
     profiles: {max: {port: 8603, placement: manual, layers: {big: 1}}, cpu_only: {port: 8604}}}
  - {id: eye, display_name: Eye, kind: vision, purpose_tags: [see], context_tokens: 2048, cost_tier: low,
     versions: [{version_id: "1", gguf_url: file:///w/eye.gguf, mmproj_url: file:///w/eye.mmproj.gguf}],
     profiles: {max: {port: 8605}, cpu_only: {port: 8606}}}
  - {id: far, display_name: Far, purpose_tags: [chat], context_tokens: 2048, cost_tier: low}
personas: [{id: pirate, base_model: chat, system_prompt: Arr., sampling: {temperature: 0.7}}]
purposes:
  chat: {candidates: [chat, far], otherwise: small, default: true}
  small: {candidates: [small]}
  see: {candidates: [eye], when: [{has_images: true}]}
policies: {clients: {me: {sources: [me], models: [chat], purposes: [chat]}}}
"""
SOUND = yaml.safe_load(SOUND_TEXT)


@PATIENT
@given(mistaken(SOUND, most=3))
def test_any_mistakes_in_a_sound_tree_give_a_catalog_or_problems(tree: Any) -> None:
    check(as_yaml(tree))


def test_the_sound_tree_is_sound() -> None:
    checked = check_project(sources(as_yaml(SOUND), None))
    assert not [problem for problem in checked.problems if problem.is_error]
    assert len(checked.placements) == 6


def sound_lock() -> Any:
    """Give the lock of the sound tree."""
    tree: Any = yaml.safe_load(sources(as_yaml(SOUND), None).lock_text or "")
    return tree


@PATIENT
@given(st.deferred(lambda: mistaken(sound_lock(), most=3)))
def test_any_lock_gives_a_catalog_or_problems(lock: Any) -> None:
    check(as_yaml(SOUND), lock)
