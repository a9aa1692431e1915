"""Pass 1 of 4: models.yaml text → Config."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kloros_infra.compiler.source import Address, Source, read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Diagnostic, Problems, Span, has_errors, in_order
from kloros_infra.ir.config import Config


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the operator wrote, and where: later passes point at places too."""

    config: Config
    source: Source

    def span(self, address: Address) -> Span:
        """Find a scalar, or the key that holds a list or mapping, by its keys and indices from the top."""
        return self.source.span(address)

    def locate(self, problem: Diagnostic, address: Address, *, at_key: bool = False) -> Diagnostic:
        """Give a problem its place: that of the value, or of its key."""
        span = self.source.key_span(address) if at_key else self.source.span(address)
        return replace(problem, span=span, address=self.source.path(address))


def parse(text: str, *, file: str) -> tuple[Parsed | None, Problems]:
    """Read models.yaml; report every problem of its syntax, keys and single values at once."""
    source, problems = read(text, file=file)
    if source is None:
        return None, in_order(problems)
    config, more = read_spec(source, Config)
    problems = in_order((*problems, *more))
    if config is None or has_errors(problems):
        return None, problems
    return Parsed(config, source), problems
