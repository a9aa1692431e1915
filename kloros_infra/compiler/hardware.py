"""Checks of hosts, GPUs and profiles against each other (KI209 to KI211, KI220 to KI223)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import GpuSpec, ProfileSpec
from kloros_infra.placement.problems import in_mib

TURING = (7, 5)
BLACKWELL = (10, 0)


def local_hosts(config: Config) -> tuple[str, ...]:
    """Name the hosts that the file is applied on; there must be one."""
    return tuple(name for name, host in config.hosts.items() if host.role == "local")


def compute_capability(gpu: GpuSpec) -> tuple[int, int]:
    """Split "8.6" so that versions compare as numbers."""
    major, minor = gpu.compute_capability.split(".")
    return int(major), int(minor)


def reserve_bytes(gpu: GpuSpec, config: Config) -> int:
    """Say how much of a GPU is left to others."""
    return config.defaults.reserve if gpu.reserve is None else gpu.reserve


def check_hosts(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find a file that is for no machine, or for several."""
    local = local_hosts(parsed.config)
    if len(local) != 1:
        found = ", ".join(local) or "none"
        problem = Diagnostic(
            code="KI209",
            summary="Not one local host",
            detail=f"A file is applied on one machine; the hosts with `role: local` are: {found}.",
            hint="Give `role: local` (also the default) to the machine that the file is for alone, and"
            " `role: remote` to the others.",
        )
        yield parsed.locate(problem, ("hosts",))


def check_gpus(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find GPUs that cannot be told apart or have no memory to give."""
    config = parsed.config
    owners: dict[tuple[str, str], str] = {}
    for name, gpu in config.gpus.items():
        for identity in filter(None, (gpu.uuid, gpu.pci)):
            first = owners.setdefault((gpu.host, identity), name)
            if first != name:
                yield parsed.locate(_same_card(name, first, identity), ("gpus", name), at_key=True)
        if gpu.uuid is None:
            problem = _no_identity(name) if gpu.pci is None else _pci_only(name)
            yield parsed.locate(problem, ("gpus", name), at_key=True)
        if reserve_bytes(gpu, config) >= gpu.vram:
            yield parsed.locate(_nothing_left(name, gpu, config), ("gpus", name, "reserve"))


def check_profiles(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find profiles whose GPUs cannot work together."""
    config = parsed.config
    local = local_hosts(config)
    for name, profile in config.profiles.items():
        seen: set[str] = set()
        for index, gpu_name in enumerate(profile.gpus):
            address = ("profiles", name, "gpus", index)
            if gpu_name in seen:
                yield parsed.locate(_listed_twice(gpu_name, name), address)
            seen.add(gpu_name)
            gpu = config.gpus.get(gpu_name)
            if gpu and local and gpu.host in config.hosts and gpu.host not in local:
                yield parsed.locate(_not_local(gpu_name, gpu.host), address)
        for problem in _driver_conflicts(name, profile, config):
            yield parsed.locate(problem, ("profiles", name), at_key=True)


def _driver_conflicts(name: str, profile: ProfileSpec, config: Config) -> Iterator[Diagnostic]:
    """Compare the GPUs of one kernel: it loads one flavour of NVIDIA's modules.

    NVIDIA driver README, chapter "Open Linux Kernel Modules": the open flavour supports Turing and
    later, and Blackwell is supported by the open flavour alone.
    """
    gpus = {gpu: config.gpus[gpu] for gpu in profile.gpus if gpu in config.gpus}
    for host in dict.fromkeys(gpu.host for gpu in gpus.values()):
        here = {gpu: compute_capability(spec) for gpu, spec in gpus.items() if spec.host == host}
        need_open = [gpu for gpu, capability in here.items() if capability >= BLACKWELL]
        need_proprietary = [gpu for gpu, capability in here.items() if capability < TURING]
        if need_open and need_proprietary:
            yield _no_common_driver(name, need_open, need_proprietary)


def _same_card(name: str, first: str, identity: str) -> Diagnostic:
    detail = f"{first} and {name} both claim to be the card {identity}."
    return Diagnostic("KI211", "GPU declared or listed twice", detail, "Give each card its own uuid and pci.")


def _listed_twice(gpu: str, profile: str) -> Diagnostic:
    detail = f"The profile {profile} lists {gpu} more than once."
    return Diagnostic("KI211", "GPU declared or listed twice", detail, "List each GPU once.")


def _not_local(gpu: str, host: str) -> Diagnostic:
    return Diagnostic(
        code="KI210",
        summary="GPU of another host",
        detail=f"{gpu} is in {host}; a profile can only use GPUs of the machine that the file is applied on.",
        hint="Take the GPU out of the profile, or write a models.yaml for that machine.",
    )


def _no_identity(gpu: str) -> Diagnostic:
    return Diagnostic(
        code="KI220",
        summary="GPU without identity",
        detail=f"Nothing says which card {gpu} is.",
        hint="Add its `uuid` (`nvidia-smi -L` prints it) or its `pci` address (`lspci -D` prints it).",
    )


def _pci_only(gpu: str) -> Diagnostic:
    return Diagnostic(
        code="KI221",
        summary="GPU known by PCI address only",
        detail=f"Units must name {gpu} by its index in PCI order, which shifts when another card comes or goes.",
        hint="Add its `uuid`; `nvidia-smi -L` prints it.",
        severity=Severity.WARNING,
    )


def _no_common_driver(profile: str, need_open: list[str], need_proprietary: list[str]) -> Diagnostic:
    return Diagnostic(
        code="KI222",
        summary="GPUs that cannot share a driver",
        detail=(
            f"In the profile {profile}, {', '.join(need_open)} needs NVIDIA's open kernel modules (Blackwell) and "
            f"{', '.join(need_proprietary)} the proprietary ones (older than Turing); one kernel loads one of the two "
            '(NVIDIA driver README, "Open Linux Kernel Modules").'
        ),
        hint="Leave one of them out of the profile, or move one to another machine.",
        severity=Severity.WARNING,
    )


def _nothing_left(name: str, gpu: GpuSpec, config: Config) -> Diagnostic:
    whose = "defaults.reserve" if gpu.reserve is None else "its `reserve`"
    return Diagnostic(
        code="KI223",
        summary="No memory left on a GPU",
        detail=f"{name} has {in_mib(gpu.vram)}, and {whose} keeps {in_mib(reserve_bytes(gpu, config))} of it for"
        " others: nothing is left for models.",
        hint="Lower its `reserve`, or correct its `vram`.",
    )
