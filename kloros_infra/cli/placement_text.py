"""Placements as lines for people: a bar for each device, what is where, and how fast it is foreseen to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.cli.placements import Placed
from kloros_infra.cli.table import table
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.placement import CPU, Placement, Prediction
from kloros_infra.ir.predicted_speed import three_digits
from kloros_infra.placement.account import DeviceAccount, departures, runs_text
from kloros_infra.placement.alternatives import Alternative
from kloros_infra.placement.engines.interface import FIT
from kloros_infra.placement.speed import LINKS
from kloros_infra.placement.split import by_share
from kloros_infra.placement.task import preference_of
from kloros_infra.placement.what_if import Outlook

MIB, GIB = 2**20, 2**30
BAR_CELLS = 40
UNKNOWN = "-"
SIGNS = {
    "weights": "#",
    "keys and values": "=",
    "compute": "+",
    "draft and projector": "%",
    "other models": "o",
    "reserve": "-",
    "free": ".",
}


def memory_text(size_bytes: int) -> str:
    """Write an amount of memory in the unit in which it is no mere fraction."""
    return f"{in_unit(size_bytes, size_bytes)} {unit_of(size_bytes)}"


def unit_of(largest_bytes: int) -> str:
    """Choose the unit for amounts of which this is the largest."""
    return "GiB" if largest_bytes >= GIB else "MiB"


def in_unit(size_bytes: int, largest_bytes: int) -> str:
    """Write an amount of memory in the unit of the largest one."""
    return f"{size_bytes / GIB:.1f}" if unit_of(largest_bytes) == "GiB" else str(round(size_bytes / MIB))


def speed_text(tokens_per_s: float) -> str:
    """Write a speed with as many digits as an estimate has."""
    return f"{tokens_per_s:.1f}" if tokens_per_s < 10 else f"{tokens_per_s:.0f}"


def show_lines(placed: Placed) -> Iterator[str]:
    """Draw one placement."""
    instance, placement = placed.instance, placed.placement
    shared = f", shared with {instance.shared_with.profile}" if instance.shared_with else ""
    yield f"{instance.id} ({instance.model.display_name}), placed by {placement.engine}{shared}"
    yield f"  {_settings(placement)}"
    width = max(len(account.name) for account in placed.accounts)
    for account in placed.accounts:
        yield f"  {account.name.ljust(width)}  [{bar(account)}] {_amounts(account)}"
        yield f"  {' ' * width}  {layers_text(account)}"
    for one in departures(instance.model.weights.header, placement):
        yield f"  {one.what} of layers {runs_text(one.layers)} are on {one.device}: {memory_text(one.size_bytes)}"
    if placement.engine == FIT:
        yield "  llama-server itself decides when it starts: this is its first guess."
    if placement.predicted is not None:
        yield f"  {prediction_text(placement.predicted, placed.accounts)}"
    yield f"  {legend(placed.accounts)}"


def _settings(placement: Placement) -> str:
    slots = "" if placement.parallel == 1 else f" for each of {placement.parallel} requests"
    types = f"keys {placement.cache_type_k.value}, values {placement.cache_type_v.value}"
    return f"{placement.context_tokens} tokens of context{slots}, {types}, micro-batches of {placement.micro_batch}"


def bar(account: DeviceAccount) -> str:
    """Draw what takes a device's memory; whatever is there at all has a cell."""
    parts = [(name, size) for name, size in account.parts if size > 0]
    if not parts:
        return SIGNS["free"] * BAR_CELLS
    cells = [max(1, count) for count in by_share(BAR_CELLS, [size for _, size in parts])]
    while sum(cells) > BAR_CELLS:
        cells[cells.index(max(cells))] -= 1
    return "".join(SIGNS[name] * count for (name, _), count in zip(parts, cells, strict=True))


def legend(accounts: Sequence[DeviceAccount]) -> str:
    """Say what the signs in these bars mean."""
    used = {name for account in accounts for name, size in account.parts if size > 0}
    return "  ".join(f"{sign} {name}" for name, sign in SIGNS.items() if name in used)


def _amounts(account: DeviceAccount) -> str:
    parts = ", ".join(f"{name} {memory_text(size)}" for name, size in account.parts if size and name != "free")
    if account.free_bytes is None or account.total_bytes is None:
        return parts
    over = account.free_bytes < 0
    rest = f"{memory_text(-account.free_bytes)} too much" if over else f"free {memory_text(account.free_bytes)}"
    return f"{parts}{', ' if parts else ''}{rest} of {memory_text(account.total_bytes)}"


def layers_text(account: DeviceAccount) -> str:
    """Say which layers a device has."""
    layers = f"layers {runs_text(account.layers)}" if account.layers else ""
    head = "the output head" if account.has_head else ""
    if account.device == CPU and not account.layers and not account.has_head:
        return "no layers: the token embedding alone" if account.weights_bytes else "no layers"
    return " and ".join(filter(None, (layers, head))) or "no layers"


def prediction_text(predicted: Prediction, accounts: Sequence[DeviceAccount]) -> str:
    """Say how fast a placement is foreseen to be, and why not faster."""
    gap = f"; another plan could be at most {predicted.gap:.1%} faster" if predicted.gap else ""
    return (
        f"foreseen: {speed_text(predicted.decode_tokens_per_s)} tok/s generated, "
        f"{speed_text(predicted.prefill_tokens_per_s)} tok/s of prompt read, {predicted.depth_tokens} tokens deep; "
        f"{predicted.splits} graph splits; most of the time goes to {limit_text(predicted, accounts)}{gap}"
    )


def limit_text(predicted: Prediction, accounts: Sequence[DeviceAccount]) -> str:
    """Name what most of the time goes to."""
    names = {account.device: account.name for account in accounts}
    return "passing work on" if predicted.bottleneck == LINKS else names.get(predicted.bottleneck, predicted.bottleneck)


def compare_lines(placed: Placed, found: Sequence[Alternative]) -> Iterator[str]:
    """Set engines side by side; the one that models.yaml has chosen is marked."""
    instance = placed.instance
    loads = [load for one in found if one.placement for load in one.placement.loads]
    used = {load.card for load in loads}
    # Other engines use cards that the chosen plan leaves alone.
    cards = [*(card.name for card in instance.profile.cards if card.name in used), CPU]
    largest = max((load.total_bytes for load in loads), default=0)
    unit = unit_of(largest)
    yield f"{instance.id} ({instance.model.display_name}): layers and {unit} on {' | '.join(cards)}"
    preference = preference_of(instance)
    weights = f"MS {preference.prefill:g}+{preference.decode:g}"
    rows: list[tuple[str, ...]] = [("", "ENGINE", "DECODE", "PREFILL", weights, "SPLITS", "LAYERS", unit, "")]
    rows += [_row(one, placed, cards, largest) for one in found]
    for line in table(rows):
        yield f"  {line}"


def _row(one: Alternative, placed: Placed, cards: Sequence[str], largest_bytes: int) -> tuple[str, ...]:
    mark = "*" if _is_chosen(one, placed.placement) else " "
    placement = one.placement
    if placement is None or placement.predicted is None:
        reason = one.problems[0].summary if one.problems else "Does not fit"
        return (mark, one.engine, "-", "-", "-", "-", "-", "-", reason)
    predicted = placement.predicted
    loads = {load.card or load.device: load for load in placement.loads}
    ordered = [loads.get(card) for card in cards]
    return (
        mark,
        one.engine,
        speed_text(predicted.decode_tokens_per_s),
        speed_text(predicted.prefill_tokens_per_s),
        three_digits(weighed_ms(placed.instance, predicted)),
        str(predicted.splits),
        " | ".join(str(load.layers) if load else "-" for load in ordered),
        " | ".join(in_unit(load.total_bytes, largest_bytes) if load else "-" for load in ordered),
        "" if one.fits else "does not fit",
    )


def _is_chosen(one: Alternative, placement: Placement) -> bool:
    return one.placement is not None and one.placement.engine == placement.engine


def weighed_ms(instance: Instance, predicted: Prediction) -> float:
    """Say what a token costs, weighed as the solver does."""
    seconds = preference_of(instance).seconds(1 / predicted.prefill_tokens_per_s, 1 / predicted.decode_tokens_per_s)
    return 1000 * seconds


def outlook_lines(found: Sequence[Outlook]) -> Iterator[str]:
    """Tell what a supposition changes for each model."""
    rows: list[tuple[str, ...]] = [("MODEL", "NOW", "THEN", "DECODE", "PREFILL", "")]
    rows += [_outlook_row(one) for one in found]
    yield from table(rows)
    yield "Speeds are foreseen with half of the context in use."


def _outlook_row(one: Outlook) -> tuple[str, ...]:
    problem = next((problem.summary for problem in one.problems if problem.is_error), "")
    note = "left out by this profile so far" if one.is_guest else ""
    return (
        one.instance.model.name,
        _fits_text(one.before),
        _fits_text(one.after),
        _change(one, "decode_tokens_per_s"),
        _change(one, "prefill_tokens_per_s"),
        "; ".join(filter(None, (problem, note))),
    )


def _fits_text(placement: Placement | None) -> str:
    """Say where a model is, in short."""
    if placement is None:
        return "does not fit"
    cards = [load.card for load in placement.loads if load.card and load.total_bytes]
    is_lent = any(load.device == CPU and load.layers for load in placement.loads) or any(
        one.device == CPU for one in placement.exceptions
    )
    return "+".join((*cards, *(["CPU"] if is_lent or not cards else [])))


def _change(one: Outlook, figure: str) -> str:
    before, after = (_figure(placement, figure) for placement in (one.before, one.after))
    if before != after:
        return f"{before} -> {after} tok/s"
    return after if after == UNKNOWN else f"{after} tok/s"


def _figure(placement: Placement | None, figure: str) -> str:
    if placement is None or placement.predicted is None:
        return UNKNOWN
    return speed_text(getattr(placement.predicted, figure))
