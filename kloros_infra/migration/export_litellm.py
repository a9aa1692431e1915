"""What runs under a profile → a configuration of LiteLLM's proxy, in front of our bridge.

Models go by their ids, personas by theirs: the bridge puts in what they say. Aliases and purposes become other names
of a model, and the order of a purpose's candidates becomes fallbacks.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.editing.edits import Value
from kloros_infra.editing.render import block_text
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.migration.exported import Export, Exported

# LiteLLM wants a key for any server that speaks OpenAI's API; the bridge asks for none.
_NO_KEY = "none"


def export_litellm(exported: Exported) -> Export:
    """Write a configuration; what it cannot hold are notes."""
    served = [one for one in exported.instances if one.kind is not ModelKind.RERANK]
    models: list[Value] = [
        _entry(
            one.model_id,
            exported,
            mode="embedding" if one.kind is ModelKind.EMBEDDING else "chat",
            most=one.context_tokens,
        )
        for one in served
    ]
    models += [_entry(persona.id, exported, mode="chat", most=None) for persona in exported.personas]
    aliases = dict(_aliases(exported, {one.model_id for one in served}))
    fallbacks: list[Value] = [{name: list(others)} for name, others in _fallbacks(exported).items()]
    router: dict[str, Value] = {}
    if aliases:
        router["model_group_alias"] = aliases
    if fallbacks:
        router["fallbacks"] = fallbacks
    sections: dict[str, Value] = {"model_list": models, **({"router_settings": router} if router else {})}
    head = (
        f"# Written by kloros-infra export litellm, profile {exported.profile}. The models answer through our bridge,\n"
        "# so the router must run. Start it with: litellm --config THIS_FILE\n"
    )
    text = "\n".join((head, *(block_text({key: value}) for key, value in sections.items())))
    return Export(text, tuple(_notes(exported)))


def _mode(kind: ModelKind) -> str:
    return "embedding" if kind is ModelKind.EMBEDDING else "chat"


def _entry(name: str, exported: Exported, *, mode: str, most: int | None) -> Value:
    info: dict[str, Value] = {"mode": mode}
    if most is not None:
        info["max_input_tokens"] = most
    return {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", "api_base": exported.bridge_url, "api_key": _NO_KEY},
        "model_info": info,
    }


def _aliases(exported: Exported, served: set[str]) -> Iterator[tuple[str, Value]]:
    for instance in exported.instances:
        if instance.model_id in served:
            yield from ((name, instance.model_id) for name in instance.names)
    for persona in exported.personas:
        yield from ((name, persona.id) for name in persona.aliases)
    names = served | {name for one in exported.instances for name in one.names} | {one.id for one in exported.personas}
    for purpose, candidates in exported.purposes.items():
        first = next((candidate for candidate in candidates if candidate in served), None)
        if first is not None and purpose not in names:
            yield purpose, first


def _fallbacks(exported: Exported) -> dict[str, tuple[str, ...]]:
    """Say who answers where a model fails: those behind it in every purpose, in order, each once."""
    behind: dict[str, dict[str, None]] = {}
    for candidates in exported.purposes.values():
        for place, candidate in enumerate(candidates):
            behind.setdefault(candidate, {}).update(dict.fromkeys(candidates[place + 1 :]))
    return {name: tuple(others) for name, others in sorted(behind.items()) if others}


def _notes(exported: Exported) -> Iterator[str]:
    for instance in exported.instances:
        if instance.kind is ModelKind.RERANK:
            yield f"{instance.model_id}: LiteLLM reranks through named services, not through OpenAI's API"
    otherwise = ", ".join(exported.purposes)
    if otherwise:
        yield f"purposes ({otherwise}): they name their first candidate; fallbacks count for every request to a model"
