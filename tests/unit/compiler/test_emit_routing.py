"""What the router is told of an instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from kloros_infra.compiler.emit_routing import emit_routing
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.place import place
from tests.factories import a_catalog, an_instance


def test_the_router_counts_on_the_context_that_a_placement_gives() -> None:
    instance = an_instance()
    placement, _ = place(instance)
    assert placement is not None
    lowered = {instance.id: replace(placement, context_tokens=1024)}

    def context(**placements: Mapping[InstanceId, Placement]) -> int:
        table = json.loads(emit_routing(a_catalog(instance), Layout(), **placements))
        tokens: int = table["models"][0]["upstreams"][0]["context_tokens"]
        return tokens

    assert context(placements=lowered) == 1024
    assert context() == instance.serving.context_tokens
