"""How urgent a request is: what it claims, and what its client may."""

from __future__ import annotations

import pytest

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutedPolicies
from kloros_infra.router.queue import MOST_PASSED
from tests.unit.router.test_core_requests import a_client
from tests.unit.router.told import Told, a_model, a_table


@pytest.mark.parametrize(
    ("declared", "claimed", "is_first"),
    [
        (Priority.BATCH, Priority.VOICE, False),
        (Priority.BATCH, None, False),
        (Priority.VOICE, Priority.VOICE, True),
        (Priority.VOICE, Priority.BATCH, False),
        (None, Priority.VOICE, True),
    ],
)
def test_a_request_claims_at_most_its_clients_priority(
    declared: Priority | None, claimed: Priority | None, *, is_first: bool
) -> None:
    policies = RoutedPolicies(clients=(a_client("other").model_copy(update={"priority": declared}),))
    told = Told(a_table(a_model("a"), policies=policies))
    told.up("a-max")
    first = told.ask("a")
    usual = told.ask("a")
    bold = told.ask("a", client="other", priority=claimed)
    told.end(first)
    assert told.sent == [(bold if is_first else usual, "a-max")]


def test_batch_is_served_however_many_urgent_ones_come() -> None:
    told = Told(a_table(a_model("a")))
    told.up("a-max")
    flying = told.ask("a")
    patient = told.ask("a", priority=Priority.BATCH)
    served = []
    for _ in range(MOST_PASSED + 1):
        told.ask("a", priority=Priority.VOICE)
        told.end(flying)
        ((flying, _),) = told.sent
        served.append(flying)
    assert served.index(patient) == MOST_PASSED
