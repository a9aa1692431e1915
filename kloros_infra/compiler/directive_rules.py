"""Why each directive stands in a generated file: the settings behind it, the rule, and where that is written.

Every directive that is emitted has an entry here; a test compares. `settings` name places in models.yaml: what begins
with `instance:` lies below the model's entry for the profile, `model:` below the model, `version:` below the version in
use, `profile:` below the profile, `gpu:` below each of its cards, `host:` below this machine; anything else is
written from the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.compiler.sandbox_rules import RESOURCES, SANDBOX
from kloros_infra.ir.names import (
    AGENT_UNIT,
    DIRTY_PATH,
    DIRTY_TIMER,
    DIRTY_UNIT,
    LLM_TARGET,
    NODES_UNIT,
    PROFILE_UNIT,
    RECONCILE_PATH,
    RECONCILE_UNIT,
    is_instance,
)


class Kind(StrEnum):
    """What a generated file describes."""

    INSTANCE = "instance"
    SERVER = "server"
    RPC = "RPC server"
    CHOICE = "choice of the profile"
    AGENT = "agent for GPUs"
    FLAG = "flag for GPUs"
    NODES = "device nodes"
    PROFILE = "profile"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Rule:
    """Why a directive is there and has its value."""

    why: str
    source: str = ""
    settings: tuple[str, ...] = ()


SHARED: Mapping[str, Rule] = {
    "Unit.Description": Rule("What people see in `systemctl status`; nothing heeds it.", "systemd.unit(5)"),
    "Unit.PartOf": Rule("It stops with the target that holds it.", "systemd.unit(5), PartOf="),
    "Unit.StartLimitBurst": Rule("So many starts within the interval, then it stays down.", "systemd.unit(5)"),
    "Service.KillMode": Rule("SIGTERM goes to the server alone, SIGKILL to all that is left.", "systemd.kill(5)"),
    "Service.LimitNOFILE": Rule("Each connection takes a descriptor.", "systemd.exec(5)"),
    "Service.TasksMax": Rule("More threads than it can need are a fault.", "systemd.resource-control(5)"),
    "Service.DynamicUser": Rule("Where sysusers.d was not read yet, systemd makes the user up.", "systemd.exec(5)"),
    "Service.User": Rule("Neither server nor router can touch the processes of the other.", "systemd.exec(5)"),
    "Service.Restart": Rule("It comes back after a crash, and not after a stop.", "systemd.service(5)"),
    "Service.RestartSec": Rule("A pause before the next attempt.", "systemd.service(5)"),
    **{f"Service.{name}": Rule(why, source) for name, (why, source) in SANDBOX.items()},
}
CUDA_GUIDE = "CUDA C++ Programming Guide, Environment Variables"
PLACEMENT = ("instance:placement", "instance:layers", "instance:gpu_percentages", "profile:gpus")
AS_IT_STARTS = "systemd.resource-control(5), DeviceAllow=: names are looked up as a service starts"
WEIGHTS = ("model:current_version", "version:gguf_url", "version:sha256")
INSTANCE: Mapping[str, Rule] = {
    **SHARED,
    "Unit.X-Kloros-Model": Rule("Says whose unit it is; systemd ignores X- keys.", "systemd.unit(5)", ("model:id",)),
    "Unit.X-Kloros-Weights": Rule("The checksum that the lock pins.", "models.lock.yaml", WEIGHTS),
    "Unit.X-Kloros-Placement": Rule("Who decided where the layers go.", "", PLACEMENT),
    "Unit.X-Kloros-Vram": Rule("What it takes of each card, for plan's sums.", "", ("instance:context_tokens",)),
    "Unit.X-Kloros-OnChange": Rule("When a running instance takes up what differs.", "", ("instance:on_change",)),
    "Unit.X-Kloros-Relaxed": Rule(
        "What of the sandbox it goes without, and why.", "", ("sandbox.relax", "model:relax", "instance:arguments")
    ),
    "Service.LogRateLimitIntervalSec": Rule(
        "What it says while it loads is many lines at once, and apply checks the placement by them.", "systemd.exec(5)"
    ),
    "Unit.X-Kloros-Awaits": Rule("The RPC servers that apply asks before it starts this.", "", PLACEMENT),
    "Unit.X-Kloros-Predicted": Rule("Tokens per second that the speed model foresees, for plan.", "", PLACEMENT),
    "Unit.Conflicts": Rule(
        "It stops the same model's instances of other profiles that need its devices.", "systemd.unit(5)", PLACEMENT
    ),
    "Unit.Wants": Rule("Without the driver's device nodes it would not find its cards.", AS_IT_STARTS, PLACEMENT),
    "Unit.After": Rule(
        "What held its cards or its port under an earlier profile stops before this starts, and the nodes are there.",
        "systemd.unit(5), After=: a stop and a start are ordered stop first",
        (),
    ),
    "Unit.AssertPathExists": Rule("Without its weights it must not even try.", "systemd.unit(5)", WEIGHTS),
    "Unit.StartLimitIntervalSec": Rule(
        "Longer than all attempts together, each with a whole load from a slow disk; else the limit is never reached.",
        "systemd.unit(5), StartLimitIntervalSec=",
        WEIGHTS,
    ),
    "Service.Type": Rule("A program that cannot be run fails the start.", "systemd.service(5), Type=exec"),
    "Service.ExecStartPre": Rule(
        "Without the RPC servers of other hosts llama-server aborts, or waits for ever.",
        "llama.cpp, ggml-rpc.cpp, RPC_STATUS_ASSERT",
        PLACEMENT,
    ),
    "Service.Slice": Rule("All models together can be limited and seen.", "systemd.slice(5)"),
    "Service.EnvironmentFile": Rule("Named by its content: the unit changes when a value does.", "systemd.exec(5)"),
    "Service.ExecStart": Rule(
        "The launcher, and the few options that no variable takes; `:` turns expansion off.",
        "systemd.service(5), Command lines",
        ("model:name", "instance:arguments"),
    ),
    "Service.ExecStartPost": Rule("It counts as started when it answers.", "systemd.service(5)", WEIGHTS),
    "Service.TimeoutStartSec": Rule("The time until it has to be up.", "systemd.service(5)", WEIGHTS),
    "Service.TimeoutStopSec": Rule(
        "While it streams, llama-server ends the answer first.", "systemd.service(5)", ("instance:drain",)
    ),
    "Service.RestartSteps": Rule(
        "The pause grows step by step: a driver that resets a card takes longer.",
        "systemd.service(5), since 254",
        ("host:systemd",),
    ),
    "Service.RestartMaxDelaySec": Rule("The longest pause, reached by steps.", "systemd.service(5), since 254"),
    "Service.LimitMEMLOCK": Rule("With `mlock` the whole model stays in memory.", "mlock(2)", ("instance:arguments",)),
    "Service.LimitNICE": Rule("With `prio` it raises its own priority.", "setpriority(2)", ("instance:arguments",)),
    "Service.OOMPolicy": Rule("Half a model is of no use.", "systemd.service(5)"),
    "Service.OOMScoreAdjust": Rule("The desktop outlives a model.", "systemd.exec(5)"),
    "Service.MemoryMax": Rule(
        "Weights (mapped pages count), what stays on the CPU, the prompt cache, the headroom, and 512 MiB a card.",
        "systemd.resource-control(5); Linux, cgroup-v2.rst, Memory",
        (*WEIGHTS, "sandbox.memory_headroom", "instance:context_tokens"),
    ),
    "Service.CPUWeight": Rule(
        "Its share when processors are short.", "systemd.resource-control(5)", ("sandbox.cpu_weight",)
    ),
    "Service.IOWeight": Rule("Its share when the disk is busy.", "systemd.resource-control(5)", ("sandbox.io_weight",)),
    "Service.BindReadOnlyPaths": Rule("A folder it may read.", "systemd.exec(5)", ("sandbox.read_only_paths",)),
    "Service.DevicePolicy": Rule("Only the devices that are listed.", "systemd.resource-control(5)", PLACEMENT),
    "Service.DeviceAllow": Rule(
        "NVIDIA's devices by group, as their minor numbers are not stable.",
        "systemd.resource-control(5); /proc/devices",
        PLACEMENT,
    ),
    "Service.PrivateDevices": Rule("It uses no card.", "systemd.exec(5)", PLACEMENT),
}
SERVER: Mapping[str, Rule] = {
    **SHARED,
    "Unit.After": Rule("The bus carries what the router says.", "systemd.unit(5), After=", ("bus.managed",)),
    "Unit.StartLimitIntervalSec": Rule("Ten failures a minute are a fault that no restart mends.", "systemd.unit(5)"),
    "Service.Type": Rule("A program that cannot be run fails the start.", "systemd.service(5), Type=exec"),
    "Service.ExecStart": Rule(
        "The launcher and its addresses.", "systemd.service(5)", ("bus.xsub", "bus.xpub", "observability.log_level")
    ),
    "Service.TimeoutStopSec": Rule("Streams may end for up to 30 s.", "systemd.service(5)"),
    "Service.SupplementaryGroups": Rule(
        "Why a model did not load stands in the journal.", "systemd-journald.service(8), Access control"
    ),
    "Service.StateDirectory": Rule("Its allocations outlive it.", "systemd.exec(5)"),
    "Service.StateDirectoryMode": Rule("Nobody else reads them.", "systemd.exec(5)"),
    "Service.RuntimeDirectory": Rule("The socket at which it is told to start and stop models.", "systemd.exec(5)"),
    "Service.RuntimeDirectoryMode": Rule("The router itself asks who connects.", "systemd.exec(5); unix(7)"),
    "Service.LoadCredential": Rule(
        "A secret, from /etc/credstore: it is in no file that compile writes.",
        "systemd.exec(5), LoadCredential=",
        ("bridge.credential", "policies.clients", "hosts"),
    ),
    "Service.IPAddressAllow": Rule("Loopback, and the remote hosts that answer requests.", RESOURCES, ("hosts",)),
    "Service.DevicePolicy": Rule("Only the devices that are listed.", RESOURCES, ("gpus",)),
    "Service.DeviceAllow": Rule("The cards' driver says how much of them others use.", RESOURCES, ("gpus",)),
    "Service.MemoryMax": Rule(
        "Far more than it needs: a leak ends it, not the machine.", "systemd.resource-control(5)"
    ),
}
RPC: Mapping[str, Rule] = {
    **SHARED,
    "Unit.X-Kloros-Model": Rule("Says whose unit it is; systemd ignores X- keys.", "systemd.unit(5)"),
    "Unit.Wants": Rule("Its address is there once the network is.", "systemd.special(7), network-online.target"),
    "Unit.After": Rule("Its address is there once the network is.", "systemd.special(7), network-online.target"),
    "Unit.StartLimitIntervalSec": Rule("It may wait for its address and its cards.", "systemd.unit(5)"),
    "Service.Type": Rule("A program that cannot be run fails the start.", "systemd.service(5), Type=exec"),
    "Service.Slice": Rule("All models together can be limited and seen.", "systemd.slice(5)"),
    "Service.Environment": Rule("CUDA0 is the first card that the instance uses here.", CUDA_GUIDE, ("gpus",)),
    "Service.ExecStart": Rule("The launcher, its address and its devices.", "llama.cpp, tools/rpc", ("hosts",)),
    "Service.Restart": Rule("It ends with status 0 where it cannot bind.", "llama.cpp, ggml-rpc.cpp"),
    "Service.TimeoutStopSec": Rule("There is nothing to be completed.", "systemd.service(5)"),
    "Service.OOMPolicy": Rule("Half a server is of no use.", "systemd.service(5)"),
    "Service.OOMScoreAdjust": Rule("The desktop outlives a model.", "systemd.exec(5)"),
    "Service.MemoryMax": Rule("Contexts of CUDA, and a tensor on its way.", "systemd.resource-control(5)"),
    "Service.IPAddressAllow": Rule(
        "Its client's address, and not its own: RPC asks nobody who he is.", RESOURCES, ("hosts",)
    ),
    "Service.RestrictNetworkInterfaces": Rule("No other network reaches it.", RESOURCES, ("hosts",)),
    "Service.DevicePolicy": Rule("Only the devices that are listed.", RESOURCES),
    "Service.DeviceAllow": Rule("NVIDIA's devices by group, as their minor numbers are not stable.", RESOURCES),
}
LOOKING: Mapping[str, Rule] = {
    **SHARED,
    "Unit.Wants": Rule("It asks the driver, and other hosts for their cards.", AS_IT_STARTS, ("gpus", "hosts")),
    "Unit.After": Rule("It asks the driver, and other hosts for their cards.", AS_IT_STARTS, ("gpus", "hosts")),
    "Service.TimeoutStartSec": Rule("It reads some files and starts a target.", "systemd.service(5)"),
    "Service.MemoryMax": Rule("Far more than it needs.", RESOURCES),
    "Service.RuntimeDirectory": Rule("Where the active profile is written.", "systemd.exec(5)"),
    "Service.RuntimeDirectoryMode": Rule("Everybody may read which profile is active.", "systemd.exec(5)"),
    "Service.RuntimeDirectoryPreserve": Rule("What is in it outlives the service.", "systemd.exec(5)"),
    "Service.DevicePolicy": Rule("Only the devices that are listed.", RESOURCES, ("gpus",)),
    "Service.DeviceAllow": Rule("The cards' driver says how much of them is used, and by whom.", RESOURCES, ("gpus",)),
    "Service.ProtectProc": Rule("It names processes of others that have memory of a card.", "systemd.exec(5)"),
}
CHOICE: Mapping[str, Rule] = {
    **LOOKING,
    "Service.Type": Rule("It chooses once and is done.", "systemd.service(5), Type=oneshot"),
    "Service.RemainAfterExit": Rule("Done counts as running.", "systemd.service(5)"),
    "Service.ExecStart": Rule("Chooses by the cards that are present.", "systemd.service(5)", ()),
}
AGENT: Mapping[str, Rule] = {
    **LOOKING,
    "Unit.ConditionPathExists": Rule("Without the flag there is nothing to do.", "systemd.unit(5)"),
    "Unit.StartLimitIntervalSec": Rule("However often it is needed, it comes.", "systemd.unit(5)"),
    "Service.Type": Rule("It says when it has looked; or it looks once and is done.", "sd_notify(3)"),
    "Service.ExecStartPre": Rule("The flag goes before anything is read.", "systemd.path(5), PathExists="),
    "Service.ExecStart": Rule("Follows the cards, and switches profiles.", "systemd.service(5)", ("gpus", "profiles")),
    "Service.Restart": Rule("It is always there.", "systemd.service(5)"),
    "Service.TimeoutStopSec": Rule("A driver that hangs would hold it for ever.", "systemd.service(5)"),
    "Service.LogLevelMax": Rule("Of its starts each minute, systemd logs what is wrong.", "systemd.exec(5)"),
    "Service.SyslogLevel": Rule("What it says itself is logged.", "systemd.exec(5)"),
}
FLAG: Mapping[str, Rule] = {
    **AGENT,
    "Service.Type": Rule("It raises the flag and is done.", "systemd.service(5), Type=oneshot"),
    "Service.ExecStart": Rule("Whoever is meant sees the flag.", "systemd.path(5)"),
    "Path.PathExists": Rule("A level and no edge, so that no change is lost.", "systemd.path(5)"),
    "Path.PathChanged": Rule("Lockouts, and the profile that is pinned.", "systemd.path(5)"),
    "Path.Unit": Rule("What is started then.", "systemd.path(5)"),
    "Timer.OnActiveSec": Rule("The first time after a minute.", "systemd.timer(5)"),
    "Timer.OnUnitActiveSec": Rule("Then each minute, in case that an event was missed.", "systemd.timer(5)"),
    "Timer.AccuracySec": Rule("It may come together with others' timers.", "systemd.timer(5)"),
    "Timer.Unit": Rule("What is started then.", "systemd.timer(5)"),
}
NODES_OF_DRIVER: Mapping[str, Rule] = {
    **SHARED,
    "Unit.Wants": Rule("Loads the module without which CUDA finds no card.", "modprobe@.service, of systemd"),
    "Unit.After": Rule("Loads the module without which CUDA finds no card.", "modprobe@.service, of systemd"),
    "Unit.ConditionPathExists": Rule("Only where the driver is.", "systemd.unit(5)"),
    "Service.Type": Rule("It makes the nodes and is done.", "systemd.service(5), Type=oneshot"),
    "Service.ExecStart": Rule("Sandboxed services cannot have the nodes made.", "nvidia-modprobe(1)", ("gpus",)),
    "Service.TimeoutStartSec": Rule("A driver that hangs holds up nobody for long.", "systemd.service(5)"),
    "Service.MemoryMax": Rule("Far more than it needs.", RESOURCES),
    "Service.CapabilityBoundingSet": Rule("It makes device nodes, and gives them their owner.", "capabilities(7)"),
}
PROFILE: Mapping[str, Rule] = {
    **SHARED,
    "Unit.Conflicts": Rule("One profile at a time.", "systemd.unit(5), Conflicts=", ()),
}
TARGET: Mapping[str, Rule] = {
    **SHARED,
    "Unit.Wants": Rule("Everything that always runs.", "systemd.unit(5), Wants="),
    "Unit.PropagatesStopTo": Rule(
        "What is preloaded: systemd remembers what it did to units that others name.",
        "systemd.unit(5), CollectMode=",
        ("defaults.preload",),
    ),
    "Install.WantedBy": Rule("It starts at boot.", "systemd.unit(5), [Install]"),
}
RULES: Mapping[Kind, Mapping[str, Rule]] = {
    Kind.INSTANCE: INSTANCE,
    Kind.SERVER: SERVER,
    Kind.RPC: RPC,
    Kind.CHOICE: CHOICE,
    Kind.AGENT: AGENT,
    Kind.FLAG: FLAG,
    Kind.NODES: NODES_OF_DRIVER,
    Kind.PROFILE: PROFILE,
    Kind.TARGET: TARGET,
}


KINDS: Mapping[str, Kind] = {
    PROFILE_UNIT: Kind.CHOICE,
    AGENT_UNIT: Kind.AGENT,
    RECONCILE_UNIT: Kind.AGENT,
    RECONCILE_PATH: Kind.FLAG,
    DIRTY_UNIT: Kind.FLAG,
    DIRTY_PATH: Kind.FLAG,
    DIRTY_TIMER: Kind.FLAG,
    NODES_UNIT: Kind.NODES,
}


def kind_of(unit: str) -> Kind:
    """Say what kind of unit a generated one is."""
    if is_instance(unit):
        return Kind.INSTANCE
    if unit.startswith("kloros-rpc@"):
        return Kind.RPC
    if unit.endswith(".target"):
        return Kind.TARGET if unit == LLM_TARGET else Kind.PROFILE
    return KINDS.get(unit, Kind.SERVER)
