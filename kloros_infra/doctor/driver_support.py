"""What NVIDIA's drivers and CUDA builds support, by compute capability.

Sources: the driver's README, "Supported NVIDIA Products" (590 has no GPU before Turing; Blackwell begins with 570);
"NVIDIA Driver Installation Guide", Kernel Modules (open modules from Turing on, Blackwell with them alone, Maxwell,
Pascal and Volta with the proprietary ones alone); "CUDA Compatibility", Minor Version Compatibility; "CUDA C++
Programming Guide", Application Compatibility; "CUDA 13.0 Release Notes" (nothing is compiled for Volta and before).
"""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.doctor.facts import Capability, CudaBuild

MAXWELL, TURING, BLACKWELL = (5, 0), (7, 5), (10, 0)
LAST_WITH_KEPLER, LAST_BEFORE_TURING, FIRST_WITH_BLACKWELL = 470, 580, 570
# Public reports of an unbind that never ends: open-gpu-kernel-modules, issues 1119 and 1374, pull request 1292.
HANGING_BRANCHES = range(595, 611)
# CUDA's major → the oldest branch of the driver on which all of its minors run.
OLDEST_BRANCH = {11: 450, 12: 525, 13: 580}
# Toolkits that compile for both Pascal and Blackwell: 12.8 is the first with the one, 12.9 the last with the other.
FIRST_TOOLKIT_WITH_BLACKWELL, LAST_TOOLKIT_BEFORE_TURING = "12.8", "12.9"


def last_branch(capability: Capability) -> int | None:
    """Give the last branch of the driver that supports a card; None where it is still supported."""
    if capability < MAXWELL:
        return LAST_WITH_KEPLER
    return LAST_BEFORE_TURING if capability < TURING else None


def first_branch(capability: Capability) -> int | None:
    """Give the first branch that supports a card, where that is one of the last years."""
    return FIRST_WITH_BLACKWELL if capability >= BLACKWELL else None


def needs_open(capability: Capability) -> bool:
    """Say whether a card is driven by the open kernel modules alone."""
    return capability >= BLACKWELL


def needs_closed(capability: Capability) -> bool:
    """Say whether a card is driven by the proprietary kernel modules alone."""
    return capability < TURING


def has_machine_code(build: CudaBuild, capability: Capability) -> bool:
    """Say whether a build has code that a card runs as it is: of its major, and no later than it.

    Code for one architecture alone (120a) is not told apart from the usual: its number is the same.
    """
    return any(one[0] == capability[0] and one <= capability for one in build.machine_code)


def has_ptx(build: CudaBuild, capability: Capability) -> bool:
    """Say whether the driver can compile a build's code for a card: any that is no later than it."""
    return any(one <= capability for one in build.ptx)


def oldest_branch_of(build: CudaBuild) -> int | None:
    """Give the oldest branch on which a build runs, where its runtime tells."""
    return OLDEST_BRANCH.get(build.runtime) if build.runtime is not None else None


def toolkit_for(capabilities: Iterable[Capability]) -> str:
    """Say which CUDA toolkit compiles for all these cards."""
    known = tuple(capabilities)
    is_before_turing = any(one < TURING for one in known)
    has_blackwell = any(one >= BLACKWELL for one in known)
    if is_before_turing and has_blackwell:
        return f"CUDA {FIRST_TOOLKIT_WITH_BLACKWELL} or {LAST_TOOLKIT_BEFORE_TURING}"
    if is_before_turing:
        return f"CUDA {LAST_TOOLKIT_BEFORE_TURING} or an earlier 12"
    return f"CUDA {FIRST_TOOLKIT_WITH_BLACKWELL} or later" if has_blackwell else "CUDA 12 or later"


def shown(capability: Capability) -> str:
    """Write a compute capability as NVIDIA does."""
    return f"{capability[0]}.{capability[1]}"


def for_cmake(capabilities: Iterable[Capability]) -> str:
    """Write compute capabilities as CMAKE_CUDA_ARCHITECTURES takes them."""
    return ";".join(f"{major}{minor}" for major, minor in sorted(set(capabilities)))
