"""Checks of hosts, GPUs and profiles against each other (KI209 to KI211, KI220 to KI223, KI275)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.rpc_hosts import lending_hosts
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import GpuSpec, ProfileSpec
from kloros_infra.placement.card_table import CARDS, figures_of, seen_by_cuda, short_name
from kloros_infra.placement.problems import in_mib

TURING = (7, 5)
BLACKWELL = (10, 0)


def local_hosts(config: Config) -> tuple[str, ...]:
    """Name the hosts that the file is applied on; there must be one."""
    return tuple(name for name, host in config.hosts.items() if host.role == "local")


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What placement must know of a card; `vram_bytes` is what CUDA sees of it."""

    vram_bytes: int
    bandwidth_bytes_per_s: int
    compute_capability: tuple[int, int]


def figures_of_gpu(key: str, gpu: GpuSpec) -> GpuFigures | None:
    """Complete what is written by what is known of the card; None where something is neither."""
    name = gpu.name or key
    known = figures_of(name)
    vram_bytes = gpu.vram or (known.memory_bytes if known else None)
    bandwidth = gpu.bandwidth or (known.bandwidth_bytes_per_s if known else None)
    capability = compute_capability(key, gpu)
    if vram_bytes is None or bandwidth is None or capability is None:
        return None
    return GpuFigures(seen_by_cuda(name, vram_bytes), bandwidth, capability)


def compute_capability(key: str, gpu: GpuSpec) -> tuple[int, int] | None:
    """Split "8.6" so that versions compare as numbers; None where it is neither written nor known."""
    if gpu.compute_capability is None:
        known = figures_of(gpu.name or key)
        return known.compute_capability if known else None
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
        # A UUID is one card's in the whole world, a PCI address one slot's of a host.
        for host, identity in (("", gpu.uuid), (gpu.host, gpu.pci)):
            if identity is None:
                continue
            first = owners.setdefault((host, identity), name)
            if first != name:
                yield parsed.locate(_same_card(name, first, identity), ("gpus", name), at_key=True)
        if gpu.uuid is None:
            problem = _no_identity(name) if gpu.pci is None else _pci_only(name)
            yield parsed.locate(problem, ("gpus", name), at_key=True)
        figures = figures_of_gpu(name, gpu)
        if figures is None:
            yield parsed.locate(_unknown_figures(name, gpu), ("gpus", name), at_key=True)
        elif reserve_bytes(gpu, config) >= figures.vram_bytes:
            yield parsed.locate(_nothing_left(name, gpu, config, figures.vram_bytes), ("gpus", name, "reserve"))


def check_profiles(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find profiles whose GPUs cannot work together."""
    config = parsed.config
    local, lending = local_hosts(config), lending_hosts(config)
    for name, profile in config.profiles.items():
        seen: set[str] = set()
        for index, gpu_name in enumerate(profile.gpus):
            address = ("profiles", name, "gpus", index)
            if gpu_name in seen:
                yield parsed.locate(_listed_twice(gpu_name, name), address)
            seen.add(gpu_name)
            gpu = config.gpus.get(gpu_name)
            if gpu and local and gpu.host in config.hosts and gpu.host not in (*local, *lending):
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
        asked = ((gpu, compute_capability(gpu, spec)) for gpu, spec in gpus.items() if spec.host == host)
        here = {gpu: capability for gpu, capability in asked if capability is not None}
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
        detail=f"{gpu} is in {host}, which has no `rpc`: a profile can use GPUs of the machine that the file is applied"
        " on, and of hosts that lend theirs.",
        hint=f"Take the GPU out of the profile, or let {host} lend its GPUs: add `rpc` to it.",
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


def _unknown_figures(name: str, gpu: GpuSpec) -> Diagnostic:
    written = {"vram": gpu.vram, "bandwidth": gpu.bandwidth, "compute_capability": gpu.compute_capability}
    missing = [f"`{key}`" for key, value in written.items() if value is None]
    called = gpu.name or name
    near = get_close_matches(short_name(called), CARDS, n=1)
    return Diagnostic(
        code="KI275",
        summary="Figures of a GPU missing",
        detail=f"{name} has no {' and no '.join(missing)}, and {called!r} is no card whose figures are known.",
        hint=f"{f'Did you mean {near[0]}? Else give' if near else 'Give'} its `vram`, `bandwidth` and "
        "`compute_capability`, by its data sheet.",
    )


def _nothing_left(name: str, gpu: GpuSpec, config: Config, vram_bytes: int) -> Diagnostic:
    whose = "defaults.reserve" if gpu.reserve is None else "its `reserve`"
    return Diagnostic(
        code="KI223",
        summary="No memory left on a GPU",
        detail=f"{name} has {in_mib(vram_bytes)}, and {whose} keeps {in_mib(reserve_bytes(gpu, config))} of it for"
        " others: nothing is left for models.",
        hint="Lower its `reserve`, or correct its `vram`.",
    )
