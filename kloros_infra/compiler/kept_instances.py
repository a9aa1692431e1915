"""What compiles keep of instances for later ones, by digests of everything that it depends on.

Instances of a profile share its cards, so where one changes all may be placed elsewhere. What is kept is therefore what
each question to an engine was answered, and the texts of an instance as it was placed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kloros_infra.compiler.compile_cache import digest_of
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement

if TYPE_CHECKING:
    # A compile that finds everything needs no engine.
    from kloros_infra.compiler.surroundings import Surroundings
    from kloros_infra.placement.engines.interface import Outcome, Request


@dataclass(frozen=True, slots=True)
class InstanceTexts:
    """The texts of an instance's env file and unit, and the digest of what a process reads of them as it starts."""

    env: str
    unit: str
    definition: str


@dataclass(frozen=True, slots=True)
class KeptInstances:
    """Answers of engines and texts of instances, by their digests."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    texts: dict[str, InstanceTexts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """Each instance's digest, where there is a cache, and what was kept; `shared` is what all texts depend on."""

    digests: Mapping[InstanceId, str] = field(default_factory=dict)
    kept: KeptInstances = field(default_factory=KeptInstances)
    shared: str = ""

    def text_digests(
        self, around: Mapping[InstanceId, Surroundings], placements: Mapping[InstanceId, Placement]
    ) -> Mapping[InstanceId, str]:
        """Digest what the texts of each instance that has some depend on: what a dataclass shows is all it holds."""
        return {
            one: digest_of(self.shared, digest, repr(around[one]), repr(placements[one]))
            for one, digest in self.digests.items()
            if one in around
        }


def instance_digests(instances: Iterable[Instance]) -> Mapping[InstanceId, str]:
    """Digest each instance."""
    return {instance.id: digest_of(repr(instance)) for instance in instances}


class KnownAnswers:
    """Answers of an earlier compile, and what this one was answered; without digests nothing is known."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.outcomes: dict[str, Outcome] = {}

    def find(self, request: Request) -> Outcome | None:
        """Give the answer to a question that was asked before."""
        digest = self._digest(request)
        found = self._known.kept.outcomes.get(digest) if digest else None
        if found is not None:
            self.outcomes[digest] = found
        return found

    def note(self, request: Request, outcome: Outcome) -> None:
        """Remember an answer."""
        if digest := self._digest(request):
            self.outcomes[digest] = outcome

    @property
    def has_changed(self) -> bool:
        """Say whether anything was answered that was not known."""
        return not self.outcomes.keys() <= self._known.kept.outcomes.keys()

    def _digest(self, request: Request) -> str:
        own = self._known.digests.get(request.instance.id, "")
        record = request.overrider_records.get(str(request.instance.id), "")
        return digest_of(own, repr(request.devices), record) if own else ""
