"""Checks of the machine: what systemd and the kernel have to offer, its memory, its clock and its journal."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.facts import CgroupVersion, Facts, Unseen

GIB = 2**30
SUPERVISED = "not needed: the embedded supervisor runs the units"
# LimitNOFILE= of the units of llama-server and the router.
NEEDED_OPEN_FILES = 65536
# The agent has a few; desktops and editors have many.
NEEDED_INOTIFY_INSTANCES = 64

SYSTEMD_MISSING = Kind(
    "KI953",
    Status.FAILURE,
    "The units are written for systemd; an older one passes over what it does not know, and with it a part of the "
    "sandbox.",
    "Use a distribution with systemd {oldest} or later, or install below a folder of your own with "
    "`kloros-infra apply --root DIR`, which brings its own supervisor.",
)
OLD_CGROUPS = Kind(
    "KI954",
    Status.WARNING,
    "Limits of memory and access to devices are kept by control groups. Those of the first version are no longer "
    "supported from systemd 256 on, which does not boot with them.",
    "Take systemd.unified_cgroup_hierarchy=0 and systemd.legacy_systemd_cgroup_controller out of the kernel's command "
    "line, then reboot.",
)
LITTLE_MEMORY = Kind(
    "KI955",
    Status.WARNING,
    "What does not fit into the memory is read from the disk again and again, or ends the model.",
    "Give models a smaller context or more layers on cards, or say with hosts.<name>.memory how much they may have.",
)
LOW_LIMITS = Kind(
    "KI956",
    Status.WARNING,
    "The router has a file open for each client, and the agent watches files; what goes beyond the kernel's limit "
    "fails.",
    "echo '{setting} = {value}' | sudo tee /etc/sysctl.d/90-kloros.conf && sudo sysctl --system",
)
CLOCK_WRONG = Kind(
    "KI957",
    Status.WARNING,
    "Lockouts end by the clock, downloads fail when it is far off, and logs of two hosts cannot be compared.",
    "sudo timedatectl set-ntp true",
)
NO_ZONE = Kind(
    "KI958",
    Status.WARNING,
    "`gpu lock --until 22:00` is meant in local time; without a time zone that is UTC.",
    "sudo timedatectl set-timezone Area/City",
)
FORGETFUL_JOURNAL = Kind(
    "KI959",
    Status.WARNING,
    "Without a journal on the disk, what the driver and the models said before a reboot is lost, and with it the "
    "reason for it.",
    "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald",
)


def check_systemd(facts: Facts) -> Iterator[Finding]:
    """Say whether systemd runs here and knows what the units need."""
    machine, wanted = facts.machine, facts.wanted
    if not wanted.has_systemd:
        yield fine(SUPERVISED)
    elif isinstance(machine, Unseen):
        yield not_seen(machine)
    elif machine.systemd is None or not machine.is_booted_with_systemd:
        yield found(SYSTEMD_MISSING, "systemd does not run this machine", oldest=str(wanted.oldest_systemd))
    elif machine.systemd < wanted.oldest_systemd:
        detail = f"systemd {machine.systemd}, and the units are written for {wanted.oldest_systemd}"
        yield found(SYSTEMD_MISSING, detail, oldest=str(wanted.oldest_systemd))
    else:
        yield fine(f"{machine.systemd}")


def check_cgroup(facts: Facts) -> Iterator[Finding]:
    """Say whether control groups are those that the limits need."""
    machine = facts.machine
    if not facts.wanted.has_systemd:
        yield fine(SUPERVISED)
    elif isinstance(machine, Unseen):
        yield not_seen(machine)
    elif machine.cgroup is CgroupVersion.UNIFIED:
        yield fine("v2")
    else:
        yield found(OLD_CGROUPS, f"control groups are {machine.cgroup}, not v2")


def check_memory(facts: Facts) -> Iterator[Finding]:
    """Hold what models take of the machine's own memory against what there is."""
    machine = facts.machine
    if isinstance(machine, Unseen) or not machine.memory_bytes:
        yield not_seen(machine if isinstance(machine, Unseen) else Unseen("/proc does not tell how much there is"))
        return
    too_large = [
        f"under {profile} models take {_gib(needed)}"
        for profile, needed in sorted(facts.wanted.memory_bytes.items())
        if needed > machine.memory_bytes
    ]
    if too_large:
        yield found(LITTLE_MEMORY, f"there are {_gib(machine.memory_bytes)}, and {', '.join(too_large)}")
    else:
        yield fine(_gib(machine.memory_bytes))


def check_limits(facts: Facts) -> Iterator[Finding]:
    """Hold the kernel's limits against those of the units."""
    limits = facts.limits
    if isinstance(limits, Unseen):
        yield not_seen(limits)
        return
    needed = (
        ("fs.nr_open", limits.open_files, NEEDED_OPEN_FILES),
        ("fs.inotify.max_user_instances", limits.inotify_instances, NEEDED_INOTIFY_INSTANCES),
    )
    low = [(setting, has, least) for setting, has, least in needed if has < least]
    for setting, has, least in low:
        yield found(LOW_LIMITS, f"{setting} is {has}, {least} are needed", setting=setting, value=str(least))
    if not low:
        yield fine(f"{limits.open_files} open files, {limits.inotify_instances} inotify instances")


def check_clock(facts: Facts) -> Iterator[Finding]:
    """Say whether the clock is kept right."""
    is_right = facts.is_clock_right
    if isinstance(is_right, Unseen):
        yield not_seen(is_right)
    elif is_right:
        yield fine("kept right by a time server")
    else:
        yield found(CLOCK_WRONG, "no time server keeps it right")


def check_time_zone(facts: Facts) -> Iterator[Finding]:
    """Say whether a time zone is set."""
    machine = facts.machine
    if isinstance(machine, Unseen):
        yield not_seen(machine)
    elif machine.zone is None:
        yield found(NO_ZONE, "none is set")
    else:
        yield fine(machine.zone)


def check_journal(facts: Facts) -> Iterator[Finding]:
    """Say whether the journal outlives a reboot."""
    machine = facts.machine
    if not facts.wanted.has_systemd:
        yield fine(SUPERVISED)
    elif isinstance(machine, Unseen):
        yield not_seen(machine)
    elif machine.has_persistent_journal:
        yield fine("kept on the disk")
    else:
        yield found(FORGETFUL_JOURNAL, "kept in memory alone")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
