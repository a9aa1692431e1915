"""Lines of a unit that depend on more than its template: what is relaxed, and what only newer versions of systemd know.

Both work on the finished text, by the directive that a line begins with, so that templates name each directive once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.catalog import Instance, Sandbox
from kloros_infra.ir.relaxation import Relaxation, SandboxDirective

# What says nothing, or the opposite, without the directive that is left out.
COMPANIONS: Mapping[SandboxDirective, tuple[str, ...]] = {
    SandboxDirective.DEVICE_POLICY: ("DeviceAllow",),
    SandboxDirective.IP_ADDRESS_DENY: ("IPAddressAllow",),
    SandboxDirective.SYSTEM_CALL_FILTER: ("SystemCallErrorNumber",),
}

RESOURCES = "@resources"
DENIED_CALLS = f"@privileged {RESOURCES}"
"""Of what services usually need, these groups of system calls are left out; systemd.exec(5), SystemCallFilter=."""
CPU_ARGUMENTS = ("cpu-mask", "cpu-range", "cpu-strict", "prio")
"""Options of llama-server that set where and how its threads run; each has forms for batches and the draft model."""
_RESOURCE_STARTS = (*CPU_ARGUMENTS, *(f"spec-draft-{name}" for name in CPU_ARGUMENTS), "numa")
_PRIORITY_STARTS = ("prio", "spec-draft-prio")


@dataclass(frozen=True, slots=True)
class Newer:
    """A value that a directive has from a version of systemd on, in place of the one in the template."""

    since: int
    directive: str
    former: str
    value: str


NEWER = (
    Newer(257, "PrivateTmp", "yes", "disconnected"),
    Newer(257, "ProtectControlGroups", "yes", "strict"),
)
"""systemd.exec(5), each with its "Added in version".

PrivatePIDs= (257) is not among them: as process 1 of a namespace llama-server would not die of signals that it has no
handler for (pid_namespaces(7)), and ProtectProc= hides other processes already. ProtectHostname=private (258) allows
more than `yes`.
"""


def for_version(text: str, systemd_version: int) -> str:
    """Write the values that this version of systemd knows."""
    values = {
        f"{newer.directive}={newer.former}": f"{newer.directive}={newer.value}"
        for newer in NEWER
        if newer.since <= systemd_version
    }
    return "".join(f"{values.get(line, line)}\n" for line in text.splitlines()) if values else text


def without(text: str, relaxed: Collection[SandboxDirective]) -> str:
    """Leave directives out, each with all of its lines, and with those that mean nothing without it."""
    names = {name for directive in relaxed for name in (directive.value, *COMPANIONS.get(directive, ()))}
    lines = text.splitlines() if names else ()
    return "".join(f"{line}\n" for line in lines if line.partition("=")[0] not in names) or text


def relaxations(instance: Instance, sandbox: Sandbox, *, has_cards: bool) -> tuple[Relaxation, ...]:
    """List what an instance's unit goes without: as for all models, then for its own, less what it does not have."""
    absent = SandboxDirective.PRIVATE_DEVICES if has_cards else SandboxDirective.DEVICE_POLICY
    everything = (*sandbox.relaxed, *instance.model.relaxed)
    present = (
        Relaxation(tuple(one for one in relaxation.directives if one is not absent), relaxation.because)
        for relaxation in everything
    )
    return tuple(relaxation for relaxation in present if relaxation.directives)


def resource_arguments(instance: Instance) -> tuple[str, ...]:
    """Name the arguments for which an instance makes system calls of the group @resources."""
    return tuple(_asked(instance, _RESOURCE_STARTS))


def relaxed_words(instance: Instance, relaxed: Iterable[Relaxation]) -> Iterator[str]:
    """Say what is relaxed and why, one relaxation a line."""
    left_out: set[SandboxDirective] = set()
    for relaxation in relaxed:
        left_out.update(relaxation.directives)
        yield f"{' '.join(relaxation.directives)} (because {relaxation.because})"
    arguments = resource_arguments(instance)
    if arguments and SandboxDirective.SYSTEM_CALL_FILTER not in left_out:
        yield f"SystemCallFilter, {RESOURCES} (because of {', '.join(arguments)} in arguments)"


def further_limits(instance: Instance) -> Iterator[str]:
    """Raise the limits that arguments run into; getrlimit(2)."""
    if any(_asked(instance, ("mlock",))):
        yield "LimitMEMLOCK=infinity"
    if any(_asked(instance, _PRIORITY_STARTS)):
        # What llama.cpp asks for at most (common/common.cpp, set_process_priority).
        yield "LimitNICE=-20"


def _asked(instance: Instance, starts: tuple[str, ...]) -> Iterator[str]:
    for name, value in instance.serving.arguments:
        if name.startswith(starts) and value is not False:
            yield name
