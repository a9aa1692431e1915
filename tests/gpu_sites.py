"""An installation with two cards and two profiles below a folder, and a kernel that shows these cards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kloros_infra.cli.gpu_site import GpuSite, read_site
from kloros_infra.cli.gpu_wiring import GpuPlaces
from kloros_infra.cli.wiring import ManagerChoice, target
from kloros_infra.ir.routing import RoutedCard, RoutedProfile, RoutedShare, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream

RTX_5080 = RoutedCard(name="rtx5080", uuid=None, pci="0000:7f:00.0", vram_mib=16384)
RTX_3060 = RoutedCard(name="rtx3060", uuid="GPU-6a2b3c4d-0000-1111-2222-333344445555", pci="0000:7e:00.0")
CODE_MAX, CODE_MID = "llama@code-max.service", "llama@code-mid.service"


def a_gpu_table(*cards: RoutedCard) -> RoutingTable:
    """Build a table of a model that two profiles serve: `max` on both cards, `mid` on the last."""
    both = cards or (RTX_5080, RTX_3060)
    shares = {
        "max": tuple(RoutedShare(card=card.name, mib=8000) for card in both),
        "mid": (RoutedShare(card=both[-1].name, mib=8000),),
    }
    upstreams = (an_upstream(f"code-{profile}", port=8600 + place) for place, profile in enumerate(shares))
    served = (one.model_copy(update={"shares": shares[one.profile]}) for one in upstreams)
    table = a_routing_table(a_routed_model("code", *served), profiles=("max", "mid"))
    profiles = (
        RoutedProfile(name="max", cards=both, regain_after_s=30.0),
        RoutedProfile(name="mid", cards=both[-1:], regain_after_s=30.0),
    )
    return table.model_copy(update={"profiles": profiles})


def a_gpu_site(folder: Path, table: RoutingTable | None = None) -> GpuSite:
    """Install a table below a folder, and show its cards as present."""
    table = table or a_gpu_table()
    where = target(folder / "root", ManagerChoice.AUTO)
    routing = where.root / where.layout.routing
    routing.parent.mkdir(parents=True, exist_ok=True)
    routing.write_text(json.dumps(table.model_dump(mode="json")))
    places = GpuPlaces(where, folder / "sys", folder / "proc")
    for profile in table.profiles:
        for card in profile.cards:
            plug_in(places, card)
    return read_site(places)


def plug_in(places: GpuPlaces, card: RoutedCard) -> None:
    """Show a card on the bus."""
    device = _device(places, card)
    device.mkdir(parents=True, exist_ok=True)
    (device / "vendor").write_text("0x10de\n")


def take_out(places: GpuPlaces, card: RoutedCard) -> None:
    """Have a card gone."""
    shutil.rmtree(_device(places, card))


def _device(places: GpuPlaces, card: RoutedCard) -> Path:
    assert card.pci
    return places.sysfs / "bus" / "pci" / "devices" / card.pci
