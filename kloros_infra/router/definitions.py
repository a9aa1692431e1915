"""Whether a process is what the table wants, and how the table looks with those that still are what they were."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.ir.routing import RoutedModel, RoutingTable, Upstream
from kloros_infra.router.board import Local

TABLE_LAG_S = 1.0
"""So long after a new process of somebody else's the table may come by which it was started."""
OF_THE_PROCESS = ("host", "port", "context_tokens", "parallel", "load_s", "shares", "definition")


def is_same_process(before: Upstream, now: Upstream) -> bool:
    """Say whether a running llama-server is what another table wants as well."""
    return (before.definition, before.host, before.port) == (now.definition, now.host, now.port)


def is_as_started(local: Local, upstream: Upstream, now: float) -> bool:
    """Say whether an instance counts as started by a definition that has just been read."""
    if is_same_process(local.upstream, upstream) or not local.life.is_holding:
        return True
    return now < local.appeared_at + TABLE_LAG_S


def still_running(before: Upstream, now: Upstream) -> Upstream:
    """Take from a new definition all but what only another process has of it."""
    return now.model_copy(update={name: getattr(before, name) for name in OF_THE_PROCESS})


def as_running(table: RoutingTable, profile: str, locals_: Iterable[Local]) -> RoutingTable:
    """Give the table with the instances as they run.

    Those whose processes are of a former definition are as that has them. Behind the instance that serves a model
    under the profile, if there is one, comes what another profile has left and still serves.
    """
    known = tuple(locals_)
    former = {local.name: local.upstream for local in known if local.successor is not None}
    standing_in = {local.model_id: local.upstream for local in known if local.stands_in}
    if not former and not standing_in:
        return table

    def running(model: RoutedModel) -> RoutedModel:
        upstreams = [
            former.get(upstream.instance, upstream).model_copy(update={"profile": upstream.profile})
            for upstream in model.upstreams
        ]
        if model.id in standing_in:
            upstreams.append(standing_in[model.id].model_copy(update={"profile": profile}))
        return model.model_copy(update={"upstreams": tuple(upstreams)})

    return table.model_copy(update={"models": tuple(map(running, table.models))})
