"""What an operator takes out of the sandbox of llama-server, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SandboxDirective(StrEnum):
    """A line of the sandbox that can be left out.

    Those that DynamicUser= implies, and those that systemd sets anyway, would leave nothing out (systemd.exec(5)).
    """

    DEVICE_POLICY = "DevicePolicy"
    IP_ADDRESS_DENY = "IPAddressDeny"
    LIMIT_CORE = "LimitCORE"
    LOCK_PERSONALITY = "LockPersonality"
    MEMORY_DENY_WRITE_EXECUTE = "MemoryDenyWriteExecute"
    PRIVATE_DEVICES = "PrivateDevices"
    PRIVATE_IPC = "PrivateIPC"
    PRIVATE_MOUNTS = "PrivateMounts"
    PRIVATE_USERS = "PrivateUsers"
    PROTECT_CLOCK = "ProtectClock"
    PROTECT_CONTROL_GROUPS = "ProtectControlGroups"
    PROTECT_HOME = "ProtectHome"
    PROTECT_HOSTNAME = "ProtectHostname"
    PROTECT_KERNEL_LOGS = "ProtectKernelLogs"
    PROTECT_KERNEL_MODULES = "ProtectKernelModules"
    PROTECT_KERNEL_TUNABLES = "ProtectKernelTunables"
    PROTECT_PROC = "ProtectProc"
    RESTRICT_ADDRESS_FAMILIES = "RestrictAddressFamilies"
    RESTRICT_NAMESPACES = "RestrictNamespaces"
    RESTRICT_REALTIME = "RestrictRealtime"
    SYSTEM_CALL_ARCHITECTURES = "SystemCallArchitectures"
    SYSTEM_CALL_FILTER = "SystemCallFilter"
    UMASK = "UMask"


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Directives that are left out, and the reason that the operator gives."""

    directives: tuple[SandboxDirective, ...]
    because: str
