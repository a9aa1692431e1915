"""Other cards, another context: what changes for each model of a profile."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.catalog import Catalog, Instance, PlacementMode, Profile
from kloros_infra.placement.place import Machine
from kloros_infra.placement.published import derive_header
from kloros_infra.placement.what_if import Outlook, Supposition, outlooks, profile_with
from tests.factories import GIB, a_card, a_catalog, a_model, a_profile, a_serving, an_instance, some_weights

SMALL = a_card("small", vram_bytes=8 * GIB)
LARGE = a_card("large", vram_bytes=24 * GIB, bandwidth_bytes_per_s=936 * 10**9)
HOME, OTHER = a_profile("home", SMALL), a_profile("other", LARGE)


def served(
    name: str, profile: Profile = HOME, *, architecture: str = "llama-3.1-8b", preload: bool = True, **how: object
) -> Instance:
    header = derive_header(architecture, "Q4_K_M")
    assert header is not None
    model = a_model(name, weights=some_weights(name, header=header), context_tokens=4096)
    mode = PlacementMode.MANUAL if how else PlacementMode.AUTO
    serving = a_serving(context_tokens=4096, preload=preload, placement=mode)
    return replace(an_instance(model, profile, serving=serving), **how)  # type: ignore[arg-type]  # one of its fields


def told(catalog: Catalog, supposition: Supposition, *, model_id: str | None = None) -> dict[str, Outlook]:
    found, problems = outlooks(catalog, HOME, supposition, Machine(), model_id=model_id)
    assert problems == ()
    return {one.instance.model.id: one for one in found}


def speed(one: Outlook) -> tuple[float, float]:
    assert one.before is not None
    assert one.after is not None
    assert one.before.predicted is not None
    assert one.after.predicted is not None
    return one.before.predicted.decode_tokens_per_s, one.after.predicted.decode_tokens_per_s


def test_a_card_takes_the_place_of_its_name_and_others_are_added() -> None:
    bigger = replace(SMALL, vram_bytes=16 * GIB)
    assert profile_with(HOME, Supposition((bigger,))).cards == (bigger,)
    assert profile_with(HOME, Supposition((LARGE,))).cards == (SMALL, LARGE)
    assert profile_with(HOME, Supposition((LARGE,), frozenset({"small"}))).cards == (LARGE,)


def test_a_faster_card_makes_a_model_faster() -> None:
    one = told(a_catalog(served("chat")), Supposition((LARGE,)))["chat"]
    before, after = speed(one)
    assert after > 2 * before
    assert one.after is not None
    assert {load.card for load in one.after.loads if load.layers} == {"large"}
    assert not one.is_guest


def test_nothing_supposed_is_nothing_changed() -> None:
    for one in told(a_catalog(served("chat"), served("also", OTHER)), Supposition()).values():
        assert one.before == one.after


def test_a_model_that_is_left_out_is_tried() -> None:
    catalog = a_catalog(served("chat"), served("deep", OTHER, architecture="qwen2.5-14b"), profiles=(HOME, OTHER))
    one = told(catalog, Supposition((LARGE,)))["deep"]
    assert one.is_guest
    assert one.before is None
    assert one.after is not None
    assert one.problems == ()


def test_a_longer_context_may_be_too_much() -> None:
    catalog = a_catalog(served("chat"), served("more", preload=False))
    found = told(catalog, Supposition(context_tokens=131072), model_id="chat")
    assert list(found) == ["chat"]
    assert found["chat"].before is not None
    assert found["chat"].after is None
    assert [problem.code for problem in found["chat"].problems] == ["KI401"]


def test_layers_that_are_written_for_other_cards_are_the_solver_s() -> None:
    catalog = a_catalog(served("chat", layers=(33,)))
    changed = told(catalog, Supposition((LARGE,)))["chat"]
    assert changed.before is not None
    assert changed.before.engine == "layers"
    assert changed.after is not None
    assert changed.after.engine == "solver"
    same = told(catalog, Supposition(context_tokens=2048))["chat"]
    assert same.after is not None
    assert same.after.engine == "layers"


def test_models_that_are_started_together_and_are_too_much_are_told_of() -> None:
    catalog = a_catalog(served("chat"), served("also", OTHER), profiles=(HOME, OTHER))
    both = a_catalog(*(served(name) for name in ("a", "b", "c")), profiles=(HOME,))
    assert outlooks(catalog, HOME, Supposition(), Machine())[1] == ()
    _, problems = outlooks(both, HOME, Supposition(context_tokens=8192), Machine())
    assert {problem.code for problem in problems} == {"KI402"}
