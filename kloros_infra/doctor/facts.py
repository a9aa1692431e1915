"""What is known of a machine and of what is asked of it. A fact that could not be had says so, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.card_facts import DriverReading
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.observed import Listener, UnitState

AS_ROOT = "Run it as root, or as the user whose installation it is."
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Unseen:
    """A fact that could not be had: why, and how it can be."""

    reason: str
    fix: str = AS_ROOT


Value = TypeVar("Value")
Seen: TypeAlias = Value | Unseen


@dataclass(frozen=True, slots=True)
class NeededCard:
    """A card of this machine that a profile needs; `vram_bytes` is 0 where it is not declared."""

    name: str
    capability: Capability | None = None
    vram_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NeededPort:
    """A TCP port on loopback, and the unit that listens on it."""

    port: int
    unit: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the machine is to do, by models.yaml or by the generation that is installed.

    `source` names that of the two, and is empty where there is neither.
    """

    source: str = ""
    problems: Problems = ()
    """Of models.yaml."""
    has_models_file: bool = False
    cards: tuple[NeededCard, ...] = ()
    lent_cards: tuple[str, ...] = ()
    """Those of other hosts."""
    units: tuple[str, ...] = ()
    ports: tuple[NeededPort, ...] = ()
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """What models take of the machine's own memory under each profile."""
    has_systemd: bool = True
    """Whether systemd is to run the units, and not the embedded supervisor."""
    oldest_systemd: int = 0
    uses_overrider: bool = False
    missing_weights_bytes: int = 0
    missing_weights: tuple[str, ...] = ()
    unpinned_weights: tuple[str, ...] = ()
    """Those of which the lock does not know size and sha256."""
    weights_count: int = 0


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's kernel driver as it is loaded; `is_open` is None where its file does not say which kind it is."""

    version: str
    is_open: bool | None
    has_persistence_daemon: bool = True

    @property
    def branch(self) -> int:
        """Give the number by which NVIDIA says what a driver supports."""
        return int(self.version.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a card is slower than it could be."""

    card: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cards:
    """Which of the needed cards are there, and what the driver says of them.

    `unusable` says of NVIDIA's cards on the bus why CUDA cannot use them, where that is so; `are_all_lent` that each of
    them is lent to a virtual machine.
    """

    present: frozenset[str] = frozenset()
    reading: DriverReading = field(default_factory=DriverReading)
    brakes: Seen[tuple[Brake, ...]] = ()
    unusable: tuple[str, ...] = ()
    are_all_lent: bool = False


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device file and who may open it."""

    path: str
    mode: int

    @property
    def is_open_to_all(self) -> bool:
        """Say whether a user who has no part in it may read and write (S_IROTH and S_IWOTH, inode(7))."""
        return self.mode & 0o006 == 0o006


@dataclass(frozen=True, slots=True)
class Devices:
    """NVIDIA's device files, the classes that /proc/devices has, and files that load nvidia-uvm at boot."""

    nodes: tuple[DeviceNode, ...] = ()
    classes: tuple[str, ...] = ()
    boot_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CudaBuild:
    """What of CUDA is in a build of llama.cpp: machine code and PTX by compute capability, and the runtime's major."""

    file: str
    machine_code: tuple[Capability, ...] = ()
    ptx: tuple[Capability, ...] = ()
    runtime: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """The llama-server that runs the models; `trouble` says why it does not run, `cuda` is None without CUDA."""

    path: str
    version: str = ""
    trouble: str = ""
    fix: str = ""
    cuda: CudaBuild | Unseen | None = None
    other_devices: tuple[str, ...] = ()
    """What else it was built for: vulkan, rpc …"""


class CgroupVersion(StrEnum):
    """How the kernel's control groups are mounted."""

    UNIFIED = "v2"
    HYBRID = "hybrid"
    LEGACY = "v1"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """Limits of the kernel on open files and on watched ones (proc_sys_fs(5))."""

    open_files: int
    inotify_instances: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine itself; `systemd` is None where there is none, `zone` where no time zone is set."""

    systemd: int | None
    is_booted_with_systemd: bool
    cgroup: CgroupVersion
    memory_bytes: int
    zone: str | None
    has_persistent_journal: bool


@dataclass(frozen=True, slots=True)
class Room:
    """How much is free where weights are kept, and where generations and journals are."""

    weights_path: str
    weights_bytes: int
    state_path: str
    state_bytes: int


@dataclass(frozen=True, slots=True)
class PortUse:
    """Who listens on a needed port; `main_pid` is of the unit that should, 0 where it does not run, None if unknown."""

    needed: NeededPort
    listeners: tuple[Listener, ...] = ()
    main_pid: int | None = 0


@dataclass(frozen=True, slots=True)
class Bus:
    """ChemBus; `trouble` says why a message did not come back, `round_trip_s` how long one took that did."""

    address: str
    is_ours: bool
    trouble: str = ""
    round_trip_s: float | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """The router's answer at its control socket."""

    trouble: str = ""
    answer_s: float = 0.0
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """What is installed against what is wanted; `number` is None where nothing is.

    `differences` are the changes that apply would make for models.yaml's sake, `drift` those that somebody made, and
    `damage` says why the generation itself cannot be used.
    """

    number: int | None = None
    is_good: bool = True
    interrupted: str = ""
    is_unconfirmed: bool = False
    differences: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Units:
    """The units of the generation as their manager knows them, and files that the triggers need."""

    states: Mapping[str, UnitState] = field(default_factory=dict)
    missing_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The active profile by its file, and the report on the cards that led to it; None where there is none yet."""

    profile: str | None = None
    report: CardsReport | None = None
    problems: Problems = ()
    """Of lockout files."""
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that checks are made of."""

    wanted: Wanted
    driver: Seen[Driver | None]
    cards: Seen[Cards]
    devices: Seen[Devices]
    server: Seen[Server | None]
    options: Seen[Problems]
    overrider: Seen[str]
    machine: Seen[Machine]
    limits: Seen[KernelLimits]
    is_clock_right: Seen[bool]
    room: Seen[Room]
    generation: Seen[Generation]
    units: Seen[Units]
    choice: Seen[Choice]
    ports: Seen[tuple[PortUse, ...]]
    bus: Seen[Bus | None]
    router: Seen[Router | None]
