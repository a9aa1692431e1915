"""A machine with a 3060 and a 1080 Ti on which all is well: each test takes one thing away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kloros_infra.doctor.check import Check
from kloros_infra.doctor.examine import examine
from kloros_infra.doctor.facts import (
    Bus,
    Cards,
    CgroupVersion,
    Choice,
    CudaBuild,
    DeviceNode,
    Devices,
    Driver,
    Facts,
    Generation,
    KernelLimits,
    Machine,
    NeededCard,
    NeededPort,
    PortUse,
    Room,
    Router,
    Server,
    Units,
    Wanted,
)
from kloros_infra.ir.card_facts import CardReading, DriverReading
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.names import (
    AGENT_UNIT,
    DIRTY_PATH,
    DIRTY_TIMER,
    DIRTY_UNIT,
    NODES_UNIT,
    RECONCILE_PATH,
    RECONCILE_UNIT,
)
from kloros_infra.ir.observed import ActiveState, Listener, UnitState

GIB = 2**30
RTX_3060 = NeededCard("rtx3060", (8, 6), 12 * GIB)
GTX_1080_TI = NeededCard("gtx1080ti", (6, 1), 11 * GIB)
RTX_5080 = NeededCard("rtx5080", (12, 0), 16 * GIB)
STRANGE = NeededCard("strange")
CLOSED_580 = Driver("580.126.09", is_open=False)
OPEN_580 = Driver("580.126.09", is_open=True)
BUILD = CudaBuild("/opt/llama.cpp/libggml-cuda.so", ((6, 1), (8, 6), (12, 0)), ((8, 6),), 12)
SERVER = Server("/opt/llama.cpp/llama-server", "6912 (a1b2c3d)", cuda=BUILD)
NODES = tuple(DeviceNode(f"/dev/nvidia{one}", 0o666) for one in ("0", "1", "ctl", "-uvm"))
DEVICES = Devices(NODES, ("nvidia", "nvidia-uvm"), ("/etc/modules-load.d/nvidia.conf",))
MACHINE = Machine(
    systemd=257,
    is_booted_with_systemd=True,
    cgroup=CgroupVersion.UNIFIED,
    memory_bytes=64 * GIB,
    zone="Europe/Vienna",
    has_persistent_journal=True,
)
WANTED = Wanted(
    source="models.yaml",
    has_models_file=True,
    cards=(RTX_3060, GTX_1080_TI),
    units=("kloros-bus.service", "kloros-router.service", NODES_UNIT),
    ports=(NeededPort(8601, "llama@code-mid.service"),),
    memory_bytes={"mid": 20 * GIB},
    oldest_systemd=252,
    uses_overrider=True,
    weights_count=3,
)
STATES = {
    name: UnitState(name, active)
    for name, active in (
        ("kloros-router.service", ActiveState.ACTIVE),
        ("llama@code-mid.service", ActiveState.INACTIVE),
        (AGENT_UNIT, ActiveState.ACTIVE),
        (RECONCILE_PATH, ActiveState.ACTIVE),
        (RECONCILE_UNIT, ActiveState.INACTIVE),
        (DIRTY_PATH, ActiveState.ACTIVE),
        (DIRTY_TIMER, ActiveState.ACTIVE),
        (DIRTY_UNIT, ActiveState.INACTIVE),
    )
}
READING = DriverReading((CardReading("rtx3060", total_bytes=12 * GIB), CardReading("gtx1080ti", used_bytes=0)))
HEALTHY = Facts(
    wanted=WANTED,
    driver=CLOSED_580,
    cards=Cards(frozenset({"rtx3060", "gtx1080ti"}), READING),
    devices=DEVICES,
    server=SERVER,
    options=(),
    overrider="1.0.0",
    machine=MACHINE,
    limits=KernelLimits(1_048_576, 1024),
    is_clock_right=True,
    room=Room("/var/lib/llama-models", 100 * GIB, "/etc/kloros-infra/generations", 10 * GIB),
    generation=Generation(12),
    units=Units(STATES),
    choice=Choice("mid", CardsReport(profile="mid", reason="rtx5080 is absent", since_epoch_s=0), (), ("max", "mid")),
    ports=(PortUse(NeededPort(8601, "llama@code-mid.service"), (Listener(7, "llama-server"),), 7),),
    bus=Bus("tcp://127.0.0.1:5556", is_ours=True, round_trip_s=0.0021),
    router=Router(answer_s=0.0012, profile="mid"),
)


def wants(**changed: Any) -> Wanted:
    """Want something else of the machine."""
    return replace(WANTED, **changed)


def checks(name: str, **changed: Any) -> tuple[Check, ...]:
    """Make one check on the healthy machine, but for some facts."""
    return examine(replace(HEALTHY, **changed), (name,))


def codes(name: str, **changed: Any) -> list[str]:
    """Name the codes that a check gives, none where all is well."""
    return [check.code for check in checks(name, **changed) if check.code]


def line(name: str, **changed: Any) -> str:
    """Give what the one line of a check says."""
    (only,) = checks(name, **changed)
    return only.detail
