"""How much of the machine a service of ours can reach, by systemd's own weights: plan shows it before systemd is asked.

`systemd-analyze security` adds up what each setting leaves open and divides by what all of them could
(systemd, src/analyze/analyze-security.c). The same is done here for the settings that our units have, without a file,
a process or a systemd; a contract test compares both, directive by directive. The word of the gate stays systemd's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.ir.unit_keys import unit_keys

# What each setting weighs where it is not on: some are said by DynamicUser= as well (systemd.exec(5)).
SWITCHES: Mapping[str, int] = {
    "LockPersonality": 100,
    "MemoryDenyWriteExecute": 100,
    "PrivateDevices": 1000,
    "PrivateMounts": 1000,
    "PrivateNetwork": 2500,
    "PrivateUsers": 1000,
    "ProtectClock": 1000,
    "ProtectControlGroups": 1000,
    "ProtectHostname": 50,
    "ProtectKernelLogs": 1000,
    "ProtectKernelModules": 1000,
    "ProtectKernelTunables": 1000,
    "RestrictNamespaces": 4100,
    "RestrictRealtime": 500,
}
SAID_BY_DYNAMIC_USER: Mapping[str, int] = {
    "NoNewPrivileges": 1000,
    "PrivateTmp": 1000,
    "ProtectSystem": 1000,
    "RemoveIPC": 100,
    "RestrictSUIDSGID": 1000,
}
LISTS = frozenset({"DeviceAllow", "IPAddressAllow", "RestrictAddressFamilies", "SystemCallFilter"})
NEVER_ON = 200 + 10
"""RootDirectory= and ProcSubset=, of which our units have neither."""
ALWAYS_GOOD = 1000 + 1000 + 100 + 500
"""KeyringMode=, NotifyAccess=, Delegate= and AmbientCapabilities=: systemd's defaults are the best there is."""
CAPABILITIES = 14_025
"""What CapabilityBoundingSet= closes where it is empty, as it is in nearly every unit of ours."""
CAPABILITY: Mapping[str, int] = {"CAP_CHOWN": 1000, "CAP_MKNOD": 500}
"""Those that a unit of ours keeps."""
USER, GROUPS, UMASK, HOME, PROC, ARCHITECTURES, ADDRESSES, DEVICES = 2000, 200, 100, 1000, 1000, 1000, 1000, 1000

FAMILIES: Mapping[str, int] = {"AF_INET": 1500, "AF_UNIX": 25, "AF_NETLINK": 200, "AF_PACKET": 1000, "others": 1250}
CALLS: Mapping[str, int] = {
    "@clock": 1000, "@cpu-emulation": 250, "@debug": 1000, "@module": 1000, "@mount": 1000, "@obsolete": 250,
    "@privileged": 700, "@raw-io": 1000, "@reboot": 1000, "@resources": 700, "@swap": 1000,
}  # fmt: skip
IN_SYSTEM_SERVICE = ("@privileged", "@resources")
"""Groups of which @system-service has a part; systemd-analyze(1), syscall-filter."""
PARTS: Mapping[str, str] = {"@chown": "@privileged", "sched_setscheduler": "@resources"}
"""What our services may do by name, and the groups that it is of."""

TOTAL = (
    sum((*SWITCHES.values(), *SAID_BY_DYNAMIC_USER.values(), *FAMILIES.values(), *CALLS.values()))
    + NEVER_ON
    + ALWAYS_GOOD
    + CAPABILITIES
    + USER
    + GROUPS
    + UMASK
    + HOME
    + PROC
    + ARCHITECTURES
    + ADDRESSES
    + DEVICES
)
ONLY_WITHOUT_RIGHTS = SAID_BY_DYNAMIC_USER["RemoveIPC"] + GROUPS
"""What says nothing of a service that runs as root."""


def exposure(text: str) -> float:
    """Score a service of ours from 0 (best) to 10, as systemd does."""
    keys = dict(_settings(text))
    is_root = "User" not in keys and not _is_on(keys.get("DynamicUser"))
    total = TOTAL - (ONLY_WITHOUT_RIGHTS if is_root else 0)
    # Both are rounded up, by systemd's DIV_ROUND_UP.
    return -(-sum(_open(keys, is_root=is_root)) * 100 // total) / 10


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Read [Service]: of lists all lines count, of anything else the last one."""
    for key, value in unit_keys(text).items():
        section, _, name = key.partition(".")
        if section == "Service":
            yield name, value if name in LISTS else value.rpartition("\n")[2]


def _open(keys: Mapping[str, str], *, is_root: bool) -> Iterator[int]:
    """Give the weight of everything that is open."""
    is_dynamic = _is_on(keys.get("DynamicUser"))
    yield NEVER_ON
    yield sum(weight for name, weight in SWITCHES.items() if not _is_on(keys.get(name)))
    yield sum(
        weight
        for name, weight in SAID_BY_DYNAMIC_USER.items()
        if not is_dynamic and not _is_on(keys.get(name)) and not (name == "RemoveIPC" and is_root)
    )
    yield USER if is_root else 0
    yield GROUPS if "SupplementaryGroups" in keys and not is_root else 0
    yield _capabilities(keys.get("CapabilityBoundingSet"))
    yield _home(keys.get("ProtectHome", "read-only" if is_dynamic else "no"))
    yield {"invisible": 0, "ptraceable": 0, "noaccess": -(-PROC // 3)}.get(keys.get("ProtectProc", ""), PROC)
    yield 0 if keys.get("UMask") == "0077" else UMASK // 2
    yield 0 if keys.get("SystemCallArchitectures") == "native" else ARCHITECTURES
    yield _addresses(keys)
    yield _devices(keys)
    yield from _families(keys.get("RestrictAddressFamilies"))
    yield from _calls(keys.get("SystemCallFilter"))


def _is_on(value: str | None) -> bool:
    return value is not None and value not in ("", "no", "false", "0", "off")


def _home(value: str) -> int:
    return {"yes": 0, "tmpfs": HOME // 10, "read-only": HOME // 2}.get(value, HOME)


def _capabilities(value: str | None) -> int:
    named = None if value is None else value.split()
    if named is None or not CAPABILITY.keys() >= set(named):
        return CAPABILITIES
    return sum(CAPABILITY[name] for name in named)


def _addresses(keys: Mapping[str, str]) -> int:
    if keys.get("IPAddressDeny") != "any":
        return ADDRESSES
    allowed = frozenset(keys.get("IPAddressAllow", "").split())
    if not allowed:
        return 0
    return ADDRESSES // 5 if allowed == {"localhost"} else ADDRESSES // 2


def _devices(keys: Mapping[str, str]) -> int:
    """ProtectClock= lets the clock be read, which makes a list of devices that is not empty."""
    is_closed = _is_on(keys.get("PrivateDevices")) or keys.get("DevicePolicy") in ("closed", "strict")
    if not is_closed:
        return DEVICES
    return DEVICES // 2 if "DeviceAllow" in keys or _is_on(keys.get("ProtectClock")) else 0


def _families(value: str | None) -> Iterator[int]:
    allowed = None if value is None else frozenset(value.split())
    yield from (weight for name, weight in FAMILIES.items() if allowed is None or name in allowed)


def _calls(value: str | None) -> Iterator[int]:
    """Read a list that allows @system-service, less what later lines deny, more what they allow by name."""
    if value is None:
        yield from CALLS.values()
        return
    lines = value.split("\n")
    denied = {word for line in lines if line.startswith("~") for word in line[1:].split()}
    named = [word for line in lines if not line.startswith("~") for word in line.split()]
    allowed = {group for group in IN_SYSTEM_SERVICE if group not in denied}
    allowed |= {group for part, group in PARTS.items() if part in named}
    yield from (CALLS[group] * 9 // 10 for group in sorted(allowed))
