"""Placements as JSON: every figure in its basic unit, by stable names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from kloros_infra.cli.placements import Placed
from kloros_infra.diagnostics import Problems
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.account import DeviceAccount, departures
from kloros_infra.placement.alternatives import Alternative
from kloros_infra.placement.what_if import Outlook

VERSION = 1


def show_data(placed: Iterable[Placed]) -> dict[str, Any]:
    """Describe placements device by device."""
    return {"version": VERSION, "instances": [_placed(one) for one in placed]}


def _placed(one: Placed) -> dict[str, Any]:
    header = one.instance.model.weights.header
    shared_with = one.instance.shared_with
    return {
        **_named(one),
        "shared_with": None if shared_with is None else str(shared_with),
        **_placement(one.placement),
        "devices": [_account(account) for account in one.accounts],
        "departures": [asdict(departure) for departure in departures(header, one.placement)],
    }


def _named(one: Placed) -> dict[str, Any]:
    id = one.instance.id
    return {"instance": str(id), "model": one.instance.model.id, "profile": id.profile}


def _placement(placement: Placement) -> dict[str, Any]:
    predicted = placement.predicted
    return {
        "engine": placement.engine,
        "context_tokens": placement.context_tokens,
        "parallel": placement.parallel,
        "micro_batch": placement.micro_batch,
        "cache_type_k": placement.cache_type_k.value,
        "cache_type_v": placement.cache_type_v.value,
        "layer_devices": list(placement.layer_devices),
        "exceptions": [asdict(one) for one in placement.exceptions],
        "predicted": None if predicted is None else asdict(predicted),
    }


def _account(account: DeviceAccount) -> dict[str, Any]:
    return {**asdict(account), "used_bytes": account.used_bytes, "free_bytes": account.free_bytes}


def compare_data(compared: Iterable[tuple[Placed, Iterable[Alternative]]]) -> dict[str, Any]:
    """Describe what each engine makes of instances."""
    found = [
        {**_named(one), "chosen": one.placement.engine, "engines": [_alternative(each) for each in alternatives]}
        for one, alternatives in compared
    ]
    return {"version": VERSION, "instances": found}


def _alternative(one: Alternative) -> dict[str, Any]:
    placement = one.placement
    rest = {} if placement is None else {**_placement(placement), "loads": [asdict(load) for load in placement.loads]}
    return {**rest, "engine": one.engine, "fits": one.fits, "problems": _problems(one.problems)}


def outlook_data(found: Iterable[Outlook], problems: Problems) -> dict[str, Any]:
    """Describe what a supposition changes."""
    return {
        "version": VERSION,
        "models": [
            {
                "model": one.instance.model.id,
                "is_guest": one.is_guest,
                "before": _side(one.before),
                "after": _side(one.after),
                "problems": _problems(one.problems),
            }
            for one in found
        ],
        "problems": _problems(problems),
    }


def _side(placement: Placement | None) -> dict[str, Any] | None:
    if placement is None:
        return None
    return {**_placement(placement), "loads": [asdict(load) for load in placement.loads]}


def _problems(problems: Problems) -> list[dict[str, str]]:
    return [
        {"code": one.code, "severity": str(one.severity), "summary": one.summary, "detail": one.detail}
        for one in problems
    ]
