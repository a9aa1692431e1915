"""Why each line of the sandbox is there, and its manual page: `templates/sandbox.j2`, `loopback.j2` and their users."""

from __future__ import annotations

from collections.abc import Mapping

EXEC = "systemd.exec(5)"
RESOURCES = "systemd.resource-control(5)"

SANDBOX: Mapping[str, tuple[str, str]] = {
    "AmbientCapabilities": ("It needs no capability.", EXEC),
    "CapabilityBoundingSet": ("It can never get a capability.", EXEC),
    "IPAddressAllow": ("Loopback, and hosts that lend their cards or answer requests.", RESOURCES),
    "IPAddressDeny": ("Every other address is out of reach.", RESOURCES),
    "KeyringMode": ("The keys of others are not its own.", EXEC),
    "LimitCORE": ("A dump would write a whole model to the disk.", EXEC),
    "LockPersonality": ("It does not run as another system.", EXEC),
    "MemoryDenyWriteExecute": ("No memory is writable and executable.", EXEC),
    "NoNewPrivileges": ("No program that it starts gains rights.", EXEC),
    "PrivateDevices": ("It needs no device.", EXEC),
    "PrivateIPC": ("Shared memory of others is out of reach.", EXEC),
    "PrivateMounts": ("Mounts stay its own.", EXEC),
    "PrivateNetwork": ("It needs no network.", EXEC),
    "PrivateTmp": ("Temporary files stay its own; since 257 they need no disk.", EXEC),
    "PrivateUsers": ("Other users' ids mean nothing inside.", EXEC),
    "ProtectClock": ("The clock is not its business.", EXEC),
    "ProtectControlGroups": ("Control groups are not its business; since 257 others are not seen.", EXEC),
    "ProtectHome": ("Nobody's files are its business.", EXEC),
    "ProtectHostname": ("The host's name is not its business.", EXEC),
    "ProtectKernelLogs": ("The kernel's log is not its business.", EXEC),
    "ProtectKernelModules": ("It loads no modules.", EXEC),
    "ProtectKernelTunables": ("It turns no kernel settings.", EXEC),
    "ProtectProc": ("Processes of others are not seen.", EXEC),
    "ProtectSystem": ("The system is read-only.", EXEC),
    "RemoveIPC": ("Nothing of it is left in shared memory.", EXEC),
    "RestrictAddressFamilies": ("Only the kinds of sockets that it uses.", EXEC),
    "RestrictNamespaces": ("It makes no containers.", EXEC),
    "RestrictRealtime": ("It does not starve the machine.", EXEC),
    "RestrictSUIDSGID": ("It makes no files that lend rights.", EXEC),
    "SystemCallArchitectures": ("Only this machine's own system calls.", EXEC),
    "SystemCallErrorNumber": ("What is refused fails, and does not kill.", EXEC),
    "SystemCallFilter": ("What services need; less privileges and resources.", EXEC),
    "UMask": ("Nobody else reads what it writes.", EXEC),
}
