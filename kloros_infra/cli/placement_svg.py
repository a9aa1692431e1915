"""Placements as a picture: SVG, which browsers and Git hosts show, and which needs no library to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from kloros_infra.cli.placement_text import layers_text, limit_text, memory_text, speed_text
from kloros_infra.cli.placements import Placed, View
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.account import DeviceAccount, accounts
from kloros_infra.placement.alternatives import Alternative

# Colours that people with the usual kinds of colour blindness tell apart (Okabe and Ito, 2008), free space aside.
COLORS = {
    "weights": "#0072b2",
    "keys and values": "#e69f00",
    "compute": "#009e73",
    "draft and projector": "#cc79a7",
    "other models": "#56b4e9",
    "reserve": "#999999",
    "free": "#f0f0f0",
}
WIDTH, MARGIN, NAME_WIDTH = 960, 20, 170
BAR_WIDTH, BAR_HEIGHT, ROW_HEIGHT = WIDTH - 2 * MARGIN - NAME_WIDTH, 22, 52
TITLE_HEIGHT, PANEL_GAP, LEGEND_HEIGHT = 48, 14, 40
STYLE = "text{font:13px sans-serif;fill:#222}.t{font-weight:bold;font-size:15px}.s{fill:#555;font-size:12px}"


@dataclass(frozen=True, slots=True)
class Panel:
    """One placement: two lines of text above its bars."""

    title: str
    subtitle: str
    accounts: tuple[DeviceAccount, ...]

    @property
    def height(self) -> int:
        return TITLE_HEIGHT + ROW_HEIGHT * len(self.accounts) + PANEL_GAP


def panel_of(placed: Placed) -> Panel:
    """Make a picture's part of a placement."""
    return _panel_of(placed.instance, placed.placement.engine, placed.placement, placed.accounts)


def panels_of(view: View, placed: Placed, found: Iterable[Alternative]) -> Iterator[Panel]:
    """Make a picture's parts of what engines make of an instance."""
    for one in found:
        if one.placement is not None:
            told = accounts(placed.instance, one.placement, memory=view.catalog.memory, others=placed.others)
            yield _panel_of(placed.instance, one.engine, one.placement, told)


def _panel_of(instance: Instance, engine: str, placement: Placement, told: tuple[DeviceAccount, ...]) -> Panel:
    predicted = placement.predicted
    title = f"{instance.id} ({instance.model.display_name}), placed by {engine}"
    if predicted is None:
        return Panel(title, "", told)
    speed = f"{speed_text(predicted.decode_tokens_per_s)} tok/s generated"
    prompt = f"{speed_text(predicted.prefill_tokens_per_s)} tok/s of prompt read"
    limit = f"most of the time goes to {limit_text(predicted, told)}"
    return Panel(title, f"foreseen: {speed}, {prompt}; {predicted.splits} graph splits; {limit}", told)


def picture(panels: Sequence[Panel]) -> str:
    """Draw placements below each other, all bars to one scale."""
    height = 2 * MARGIN + sum(panel.height for panel in panels) + LEGEND_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    longest = max((_shown_bytes(account) for panel in panels for account in panel.accounts), default=1)
    top = MARGIN
    for panel in panels:
        lines += _panel(panel, top, longest)
        top += panel.height
    lines += [*_legend(panels, top), "</svg>", ""]
    return "\n".join(lines)


def _shown_bytes(account: DeviceAccount) -> int:
    return max(1, sum(size for _, size in account.parts))


def _panel(panel: Panel, top: int, longest: int) -> Iterator[str]:
    yield _text(MARGIN, top + 16, panel.title, "t")
    yield _text(MARGIN, top + 34, panel.subtitle, "s")
    for row, account in enumerate(panel.accounts):
        yield from _device(account, top + TITLE_HEIGHT + row * ROW_HEIGHT, longest)


def _device(account: DeviceAccount, top: int, longest: int) -> Iterator[str]:
    left = float(MARGIN + NAME_WIDTH)
    yield _text(MARGIN, top + 15, account.name)
    for name, size in account.parts:
        if size <= 0:
            continue
        width = BAR_WIDTH * size / longest
        label = f"{name}: {memory_text(size)}"
        yield (
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{COLORS[name]}" '
            f'stroke="#ffffff" stroke-width="0.5"><title>{escape(label)}</title></rect>'
        )
        left += width
    yield _text(MARGIN + NAME_WIDTH, top + BAR_HEIGHT + 15, _below(account), "s")


def _below(account: DeviceAccount) -> str:
    free, total = account.free_bytes, account.total_bytes
    if free is None or total is None:
        return f"{memory_text(account.used_bytes)}; {layers_text(account)}"
    rest = f"{memory_text(-free)} too much" if free < 0 else f"{memory_text(free)} free"
    return f"{memory_text(account.used_bytes)} of {memory_text(total)}, {rest}; {layers_text(account)}"


def _legend(panels: Sequence[Panel], top: int) -> Iterator[str]:
    used = {name for panel in panels for account in panel.accounts for name, size in account.parts if size > 0}
    left = MARGIN
    for name, color in COLORS.items():
        if name in used:
            yield f'<rect x="{left}" y="{top}" width="12" height="12" fill="{color}" stroke="#888888"/>'
            yield _text(left + 17, top + 11, name, "s")
            left += 40 + 7 * len(name)


def _text(x: int, y: int, text: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}"{kind}>{escape(text)}</text>'
