"""Plans as they are emitted, loaded by a real llama-server: families of models x contexts x sets of pretend cards.

Each card has exactly the memory that its plan may use: what was foreseen too low ends as out of memory. Nothing is
computed, neither on the cards nor by the processor, so that models of any size load in a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.compiler.emit_env import loading_variables
from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import Card, HostMemory, Instance, KvType, ModelKind
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.load_report import LoadReport
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.load_check import Tolerance, compare
from kloros_infra.placement.memory import Workload, kv_by_layer
from kloros_infra.placement.memory_breakdown import TOLERANCE, TOLERANCE_MIB
from kloros_infra.placement.place import Machine, place
from kloros_infra.placement.remote import numbered
from tests.factories import GIB, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights
from tests.fakes.fakecuda import KLOROS_CARDS, RTX_5080, PretendCard, build_fakecuda, pretending
from tests.fakes.idle_host import build_idle_host, idling
from tests.fakes.sparse_gguf import write_sparse_gguf
from tests.loading import DoesNotLoadError, loaded
from tests.sparse_models import FAMILIES

MIB = 2**20
CONTEXTS = (4096, 16384, 65536)
ONE_CARD, THREE_CARDS, TOO_SMALL = "one card", "three cards", "three cards too small"
DEVICE_SETS = (ONE_CARD, THREE_CARDS, TOO_SMALL)
HOST_MEMORY = HostMemory(usable_bytes=1024 * GIB)
EMBEDDING = frozenset({"nomic-embed-text-v1.5"})
AT_ONCE = 2
FORESEEN = Tolerance(TOLERANCE, TOLERANCE_MIB * MIB)
"""Where this much is allowed, a card's total may differ by the greater of the two."""

# Shares of what a model needs that three cards have: enough for all of it, or not.
_ENOUGH, _TOO_LITTLE = 1.4, 0.6
_MICRO_BATCH = 512


@dataclass(frozen=True, slots=True)
class Case:
    """One plan: a family's model with a context on a set of devices."""

    family: str
    context_tokens: int
    devices: str
    parallel: int = 1
    cache_type: KvType = KvType.F16

    def __str__(self) -> str:
        more = f", {self.parallel} slots" if self.parallel > 1 else ""
        more += f", {self.cache_type}" if self.cache_type is not KvType.F16 else ""
        return f"{self.family}, {self.context_tokens}{more}, {self.devices}"


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of a case: refused with `problems`, or loaded, where `failures` says what is not as placed."""

    case: Case
    placement: Placement | None
    problems: Problems
    report: LoadReport | None
    failures: tuple[str, ...]

    @property
    def is_refused(self) -> bool:
        return self.placement is None

    @property
    def has_layers_on_cpu(self) -> bool:
        return self.placement is not None and CPU in self.placement.layer_devices

    @property
    def has_experts_elsewhere(self) -> bool:
        return self.placement is not None and bool(self.placement.exceptions)

    @property
    def is_whole_on_cards(self) -> bool:
        return self.placement is not None and not self.has_layers_on_cpu and not self.has_experts_elsewhere


def whole_matrix() -> tuple[Case, ...]:
    """Give every family with every context on every set of devices, and other settings once each."""
    plain = (Case(family, context, devices) for family in FAMILIES for context in CONTEXTS for devices in DEVICE_SETS)
    return (*plain, *_other_settings())


def small_matrix() -> tuple[Case, ...]:
    """Give one plan of each kind: another rule of memory, another way to divide, another reason to change hands."""
    return (
        Case("qwen2.5-7b", 8192, THREE_CARDS, parallel=3),
        Case("llama-3.1-8b", 8192, TOO_SMALL),
        Case("gpt-oss-20b", 8192, TOO_SMALL),
        Case("gemma-3-12b", 16384, ONE_CARD),
        Case("gemma-4-31b", 16384, TOO_SMALL),
        Case("deepseek-v2-lite", 16384, THREE_CARDS, cache_type=KvType.Q8_0),
        Case("deepseek-v3", 65536, ONE_CARD),
        Case("glm-4.5-air", 4096, THREE_CARDS),
        Case("jamba-mini", 16384, ONE_CARD),
        Case("mamba2-2.7b", 8192, TOO_SMALL, parallel=3),
        Case("nemotron-h-8b", 65536, TOO_SMALL),
        Case("nomic-embed-text-v1.5", 4096, ONE_CARD),
    )


EDGES = tuple(Case(family, 16384, ONE_CARD) for family in ("qwen2.5-7b", "gpt-oss-20b", "gemma-3-12b", "nemotron-h-8b"))
"""A dense model, one of experts, one with windows and a hybrid, whose least cards are found."""


def _other_settings() -> Iterator[Case]:
    for family in FAMILIES:
        yield Case(family, 8192, TOO_SMALL, parallel=3)
        yield Case(family, 32768, THREE_CARDS, cache_type=KvType.Q8_0)


def cards_for(header: GgufHeader, case: Case) -> tuple[PretendCard, ...]:
    """Give the cards of a set: the first as it is, or three with a share of what the model needs."""
    if case.devices == ONE_CARD:
        return KLOROS_CARDS[:1]
    work = Workload(case.context_tokens, case.parallel, _MICRO_BATCH, case.cache_type, case.cache_type)
    need_mib = (header.weights_bytes + sum(kv_by_layer(header, work))) / MIB
    share = need_mib / sum(card.free_mib for card in KLOROS_CARDS)
    factor = max(1.0, _ENOUGH * share) if case.devices == THREE_CARDS else _TOO_LITTLE * share
    return tuple(with_memory(card, round(factor * card.free_mib)) for card in KLOROS_CARDS)


def with_memory(card: PretendCard, free_mib: int) -> PretendCard:
    """Make a card of the same speed with other memory."""
    return replace(card, free_mib=free_mib, total_mib=free_mib + card.total_mib - card.free_mib)


def declared(cards: Sequence[PretendCard]) -> tuple[Card, ...]:
    """Declare cards as models.yaml would, with nothing kept back: a plan may use what CUDA says is free."""
    known = zip(kloros_cards(), cards, strict=False)
    return tuple(replace(card, vram_bytes=one.free_mib * MIB, reserve_bytes=0) for card, one in known)


@cache
def header_of(family: str) -> GgufHeader:
    """Read a family's header from a file that is gone then."""
    with TemporaryDirectory() as folder:
        return read_header(write_sparse_gguf(FAMILIES[family](), Path(folder) / "model.gguf"))


def instance_of(case: Case, cards: Sequence[PretendCard]) -> Instance:
    """Ask for a case."""
    kind = ModelKind.EMBEDDING if case.family in EMBEDDING else ModelKind.CHAT
    model = a_model(weights=some_weights(header=header_of(case.family)), kind=kind)
    serving = a_serving(
        context_tokens=case.context_tokens,
        parallel=case.parallel,
        cache_type_k=case.cache_type,
        cache_type_v=case.cache_type,
    )
    return an_instance(model, a_profile("max", *declared(cards)), serving=serving)


@dataclass(frozen=True, slots=True)
class Edge:
    """The least memory of a card that a family's model is placed on alone, and what becomes of both sides.

    With a MiB less it is `refused`; with `least_mib` it is `landed`.
    """

    least_mib: int
    refused: Problems
    landed: Landed

    @property
    def failures(self) -> tuple[str, ...]:
        codes = {problem.code for problem in self.refused}
        wrong = () if codes == {"KI401"} else (f"with {self.least_mib - 1} MiB: {sorted(codes) or 'emitted'}",)
        return (*wrong, *self.landed.failures)


def too_full(case: Case) -> tuple[Placement | None, Problems]:
    """Place a case where cards and host together have half of what it needs."""
    cards = cards_for(header_of(case.family), replace(case, devices=TOO_SMALL))
    halved = tuple(with_memory(card, card.free_mib // 3) for card in cards)
    need_bytes = sum(card.free_mib for card in cards) / _TOO_LITTLE * MIB
    return place(instance_of(case, halved), Machine(HostMemory(usable_bytes=round(0.3 * need_bytes))))


def edge_mib(case: Case) -> int:
    """Find by halving the least memory with which a card alone has room; the host has none to tell of."""
    low, high = 0, 8 * round(header_of(case.family).weights_bytes / MIB)
    while high - low > 1:
        middle = (low + high) // 2
        placement, _ = _alone(case, middle)
        low, high = (middle, high) if placement is None else (low, middle)
    return high


def _alone(case: Case, free_mib: int) -> tuple[Placement | None, Problems]:
    return place(instance_of(case, (with_memory(RTX_5080, free_mib),)), Machine())


class Landing:
    """A llama-server with pretend cards, and the files of all families, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cards = build_fakecuda(folder)
        self._host = build_idle_host(folder)

    def landed(self, cases: Iterable[Case], *, machine: Machine | None = None) -> Iterator[Landed]:
        """Place each case and load what is emitted, some at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(lambda case: self.one(case, machine=machine), cases)

    def one(self, case: Case, *, cards: Sequence[PretendCard] | None = None, machine: Machine | None = None) -> Landed:
        """Place a case on its cards, or on these, and load what is emitted."""
        cards = cards_for(header_of(case.family), case) if cards is None else cards
        instance = instance_of(case, cards)
        placement, problems = place(instance, machine or Machine(HOST_MEMORY))
        if placement is None:
            return Landed(case, None, problems, None, ())
        placement = numbered(placement, instance, ())
        settings = {**loading_variables(instance, placement), **self.environment(cards)}
        try:
            with TemporaryDirectory(dir=self._folder) as folder:
                file = write_sparse_gguf(FAMILIES[case.family](), Path(folder) / "model.gguf")
                report = loaded(file, settings, Path(folder))
        except DoesNotLoadError as error:
            return Landed(case, placement, problems, None, (f"does not load: {error}",))
        return Landed(case, placement, problems, report, tuple(_failures(placement, report)))

    def edge(self, case: Case) -> Edge:
        """Find the edge of a case, and load what is emitted there on a card of exactly that memory."""
        least_mib = edge_mib(case)
        _, refused = _alone(case, least_mib - 1)
        return Edge(least_mib, refused, self.one(case, cards=(with_memory(RTX_5080, least_mib),), machine=Machine()))

    def environment(self, cards: Sequence[PretendCard]) -> Mapping[str, str]:
        """Give the variables that make a llama-server see these cards, and compute nothing."""
        return {**pretending(self._cards, cards, discards=True), **idling(self._host)}


def _failures(placement: Placement, report: LoadReport) -> Iterator[str]:
    """Hold a report against the gate's checks, and closer: flash attention said to be on, totals both ways."""
    yield from (f"{problem.code} {problem.detail}" for problem in compare(placement, report, tolerance=FORESEEN))
    if not placement.fits:
        yield "is emitted and does not fit"
    if report.main is None or report.main.has_flash_attention is not True:
        yield "flash attention is not said to be on"
    elif placement.predicted is None or report.main.graph_splits != placement.predicted.splits:
        foreseen = placement.predicted.splits if placement.predicted else None
        yield f"{report.main.graph_splits} graph splits, {foreseen} foreseen"
    found = report.total_bytes()
    for load in placement.loads:
        off_bytes = load.total_bytes - found.get(load.device, 0)
        if load.device != CPU and abs(off_bytes) > max(TOLERANCE_MIB * MIB, TOLERANCE * found.get(load.device, 0)):
            yield f"{load.device}: {off_bytes / MIB:+.0f} MiB off"
