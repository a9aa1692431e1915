"""What compiles keep of instances for later ones, by a digest of everything that it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kloros_infra.compiler.compile_cache import digest_of
from kloros_infra.compiler.surroundings import Surroundings
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.problems import address_of


@dataclass(frozen=True, slots=True)
class InstanceTexts:
    """The texts of an instance's env file and unit."""

    env: str
    unit: str


@dataclass(frozen=True, slots=True)
class KeptInstance:
    """What was worked out for one instance; `warnings` are those of its placement."""

    placement: Placement
    warnings: Problems
    texts: InstanceTexts


@dataclass(frozen=True, slots=True)
class KeptInstances:
    """Instances by their digests."""

    by_digest: dict[str, KeptInstance]


@dataclass(frozen=True, slots=True)
class Known:
    """Each instance's digest, where there is a cache, and those instances that are as they were."""

    digests: Mapping[InstanceId, str] = field(default_factory=dict)
    instances: Mapping[InstanceId, KeptInstance] = field(default_factory=dict)

    @property
    def has_changed(self) -> bool:
        """Say whether any instance is not as it was."""
        return len(self.instances) < len(self.digests)


def known_instances(digests: Mapping[InstanceId, str], kept: KeptInstances) -> Known:
    """Pick the instances that are as they were."""
    found = {one: kept.by_digest[digest] for one, digest in digests.items() if digest in kept.by_digest}
    return Known(digests, found)


def instance_digests(
    around: Mapping[InstanceId, Surroundings], instances: tuple[Instance, ...], shared: str
) -> Iterator[tuple[InstanceId, str]]:
    """Digest each instance with its surroundings and what all share: what a dataclass shows is all that it holds."""
    for instance in instances:
        yield instance.id, digest_of(shared, repr(instance), repr(around[instance.id]))


def kept_instances(
    catalog: Catalog,
    placements: Mapping[InstanceId, Placement],
    problems: Problems,
    texts: Mapping[InstanceId, InstanceTexts],
    known: Known,
) -> KeptInstances:
    """Put together what is to be kept; `problems` are those of placing, at the addresses that placing gives them."""
    warnings: dict[str, list[Diagnostic]] = {}
    for problem in problems:
        warnings.setdefault(problem.address, []).append(problem)
    return KeptInstances(
        {
            known.digests[one.id]: KeptInstance(
                placements[one.id], tuple(warnings.get(address_of(one), ())), texts[one.id]
            )
            for one in catalog.instances
        }
    )
