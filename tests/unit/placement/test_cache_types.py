"""In which types keys and values can be kept, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.catalog import Card, KvType
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.placement.place import place
from tests.factories import (
    a_7b_header,
    a_card,
    a_gguf_header,
    a_model,
    a_profile,
    a_serving,
    an_instance,
    some_weights,
)


def with_types(keys: KvType, values: KvType, *cards: Card, header: GgufHeader | None = None) -> Problems:
    """Place a model with these cache types; say what is said."""
    model = a_model(weights=some_weights(header=header or a_7b_header()))
    serving = a_serving(cache_type_k=keys, cache_type_v=values)
    return place(an_instance(model, a_profile("max", *cards), serving=serving))[1]


@pytest.mark.parametrize(
    ("keys", "values"),
    [(KvType.F16, KvType.Q8_0), (KvType.Q8_0, KvType.Q4_0), (KvType.Q5_1, KvType.Q5_1), (KvType.IQ4_NL, KvType.IQ4_NL)],
)
def test_cache_types_that_most_builds_cannot_do_on_cards_are_told(keys: KvType, values: KvType) -> None:
    (problem,) = with_types(keys, values, a_card())

    assert (problem.code, problem.severity) == ("KI406", Severity.WARNING)
    assert f"keeps keys as {keys.value} and values as {values.value}" in problem.detail
    assert with_types(keys, values) == ()


def test_types_that_may_be_kept_instead_are_looked_at_as_well() -> None:
    serving = replace(a_serving(), cache_type_choices=(KvType.Q8_0, KvType.Q5_1))
    instance = an_instance(
        a_model(weights=some_weights(header=a_7b_header())), a_profile("max", a_card()), serving=serving
    )

    (problem,) = place(instance)[1]

    assert problem.code == "KI406"
    assert "keys as q5_1 and values as q5_1" in problem.detail
    assert "q8_0 and values" not in problem.detail


@pytest.mark.parametrize("both", [KvType.F32, KvType.F16, KvType.BF16, KvType.Q8_0, KvType.Q4_0])
def test_cache_types_that_every_build_can_do_are_no_problem(both: KvType) -> None:
    assert with_types(both, both, a_card()) == ()


def test_cache_types_whose_blocks_do_not_divide_the_heads_are_refused() -> None:
    found = with_types(KvType.Q8_0, KvType.Q8_0, header=a_gguf_header())

    assert [problem.code for problem in found] == ["KI405", "KI405"]
    assert "`cache_type_v: q8_0`" in found[1].detail
    assert "are 16 values long" in found[1].detail


def test_an_encoder_has_no_cache_to_be_wrong() -> None:
    header = replace(a_gguf_header(), architecture="bert")

    assert with_types(KvType.Q8_0, KvType.Q4_1, a_card(), header=header) == ()
