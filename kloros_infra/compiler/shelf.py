"""What a compile finds of earlier ones, and what it keeps for later ones.

Three results are kept, each under a digest of all that it depends on beside the code:

    the lock      of its text and its header files
    an instance   of its values: how engines place it on devices with so much memory; of that, its surroundings and
                  the templates: its texts
    the whole     of every text that is compiled

Where nothing differs the whole is found; where one model differs, the lock and all other instances are. Only a compile
without errors keeps anything, and none of a small project without experts does: it leaves no traces for the tenth of a
second to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from kloros_infra.compiler.compile_cache import CompileCache, digest_of
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.kept_instances import KeptInstances, Known, instance_digests
from kloros_infra.compiler.kept_values import from_bytes, to_bytes
from kloros_infra.compiler.sources import Sources
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Lock, LockedWeights

FEWEST_INSTANCES = 20
"""Below this nearly all of a compile is the start of the process, unless experts have to be placed."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Digests:
    """What a compile's results depend on; `shared` is what every instance does."""

    lock: str
    shared: str
    whole: str


def digests_of(sources: Sources, templates: Mapping[str, str], layout: Layout) -> Digests:
    """Digest everything that a compile is made from."""
    # A project without a lock has errors, so nothing of it is kept.
    lock = digest_of(sources.lock_text or "", *_flat(sources.headers))
    shared = digest_of(repr(layout), *_flat(templates))
    detected = (repr(sources.detected),) if sources.detected else ()
    texts = (sources.file, sources.text, sources.lock_file, *detected, *_flat(sources.parts))
    # The number of parts says where the records begin.
    return Digests(lock, shared, digest_of(lock, shared, *texts, str(len(texts)), *_flat(sources.overrider_records)))


def _flat(texts: Mapping[str, str]) -> Iterator[str]:
    """List names and texts in turn; their order counts, as that of included files does."""
    for name, text in texts.items():
        yield name
        yield text


def _is_soon_compiled(catalog: Catalog) -> bool:
    """Say whether nothing is worth keeping; dividing a single model with experts can take seconds."""
    has_experts = any(instance.model.weights.header.expert_count for instance in catalog.instances)
    return len(catalog.instances) < FEWEST_INSTANCES and not has_experts


class Shelf:
    """The three results of one project below one root; without a cache nothing is found and nothing kept."""

    def __init__(self, cache: CompileCache | None, digests: Digests, root: str) -> None:
        self._cache = cache
        self._digests = digests
        self._whole, self._instances = f"whole {root}", f"instances {root}"

    @cached_property
    def lock(self) -> Lock | None:
        """Find the lock."""
        return self._read("lock", self._digests.lock, Lock)

    def whole(self) -> Compiled | None:
        """Find all that this compile would give."""
        if self.lock is None:
            return None
        return self._read(self._whole, self._digests.whole, Compiled, self.lock.weights)

    def known(self, catalog: Catalog) -> Known:
        """Find what was worked out for instances."""
        if self._cache is None or _is_soon_compiled(catalog):
            return Known()
        kept = self._read(self._instances, self._digests.shared, KeptInstances)
        return Known(instance_digests(catalog.instances), kept or KeptInstances(), self._digests.shared)

    def keep(self, compiled: Compiled, lock: Lock, instances: KeptInstances | None) -> None:
        """Keep what a compile gave: the lock that its weights are of, and all instances where any differs."""
        if self.lock is None:
            self._write("lock", self._digests.lock, lock)
        if instances is not None:
            self._write(self._instances, self._digests.shared, instances)
        # The weights are by far the most of it, and are in the lock already.
        self._write(self._whole, self._digests.whole, compiled, lock.weights)

    def _read(
        self, slot: str, digest: str, kind: type[Value], weights: Mapping[str, LockedWeights] | None = None
    ) -> Value | None:
        data = None if self._cache is None else self._cache.read(slot, digest)
        if data is None:
            return None
        try:
            value = from_bytes(data, weights)
        except ValueError:
            return None
        return value if isinstance(value, kind) else None

    def _write(self, slot: str, digest: str, value: object, weights: Mapping[str, LockedWeights] | None = None) -> None:
        if self._cache is not None:
            self._cache.write(slot, digest, to_bytes(value, weights))
