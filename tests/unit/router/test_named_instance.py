"""Operators name instances as the design document does, or by their models."""

from __future__ import annotations

import pytest

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.named_instance import named_instance, not_active
from tests.factories import a_routed_model, a_routing_table, an_upstream

CODE = a_routed_model(
    "qwen-coder",
    an_upstream("code-max", port=8601),
    an_upstream("code-mid", port=8602),
    name="code",
    aliases=("qc:7b",),
)
CHAT = a_routed_model("smol", an_upstream("chat-mid", port=8603), name="chat")
TABLE = a_routing_table(CODE, CHAT)


def meant(profile: str | None = None, model: str | None = None, *, active: str = "mid") -> str:
    found = named_instance(TABLE, active, profile=profile, model=model)
    return f"{found.code}: {found.detail} {found.hint}" if isinstance(found, Diagnostic) else found.instance


@pytest.mark.parametrize(
    ("profile", "model", "instance"),
    [
        ("code-max", None, "code-max"),
        ("code-max", "qwen-coder", "code-max"),
        ("code-max", "code", "code-max"),
        ("code", None, "code-mid"),
        ("qc:7b", None, "code-mid"),
        (None, "code", "code-mid"),
        ("max", "code", "code-max"),
        ("mid", "smol", "chat-mid"),
    ],
)
def test_an_instance_is_found_by_its_name_or_its_model(profile: str | None, model: str | None, instance: str) -> None:
    assert meant(profile, model) == instance


@pytest.mark.parametrize(
    ("profile", "model", "said"),
    [
        ("code-mox", None, "no instance or model 'code-mox'. Did you mean 'code-max'?"),
        ("xyz", None, "no instance or model 'xyz'. There is: chat, chat-mid, code, code-max, code-mid,"),
        (None, "smoll", "no model 'smoll'. Did you mean 'smol'?"),
        ("code-max", "smol", "no instance code-max of 'smol', as it serves 'qwen-coder'. Name another one."),
        ("max", "smol", "no instance of 'smol' under profile max. There is: chat-mid."),
        ("maxx", "smol", "no instance or profile 'maxx'. Did you mean 'max'?"),
        (None, None, "an instance without a name. There is: chat-mid, code-max, code-mid."),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(profile: str | None, model: str | None, said: str) -> None:
    told = meant(profile, model)
    assert told.startswith("KI843: There is ")
    assert said in told


def test_an_instance_of_another_profile_is_named_with_both_profiles() -> None:
    problem = not_active(CODE.upstreams[0], "mid")
    assert (problem.code, problem.address) == ("KI844", "code-max")
    assert "profile max, and mid is active" in problem.detail


def test_of_an_instance_that_profiles_share_the_active_ones_route_is_meant() -> None:
    first = an_upstream("code-max", port=8601)
    table = a_routing_table(
        a_routed_model("code", first, first.model_copy(update={"profile": "mid"})), profiles=("max", "mid", "low")
    )

    for active, profile in (("max", "max"), ("mid", "mid"), ("low", "max")):
        found = named_instance(table, active, profile="code-max", model=None)
        assert found == first.model_copy(update={"profile": profile})
