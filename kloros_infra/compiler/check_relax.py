"""Checks of what is left out of the sandbox (KI269)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_sandbox import RelaxSpec

FEWEST_WORDS = 2
"""A single word such as `no` or `yes` says that, not why."""


def check_reasons(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find relaxations whose reason is none."""
    for address, relaxed in _places(parsed.config):
        for index, spec in enumerate(relaxed):
            if len(spec.because.split()) < FEWEST_WORDS:
                yield parsed.locate(_no_reason(spec), (*address, index, "because"))


def _places(config: Config) -> Iterator[tuple[Address, Sequence[RelaxSpec]]]:
    yield ("sandbox", "relax"), config.sandbox.relax
    for index, model in enumerate(config.models):
        yield ("models", index, "relax"), model.relax


def _no_reason(spec: RelaxSpec) -> Diagnostic:
    return Diagnostic(
        code="KI269",
        summary="Relaxation without a reason",
        detail=f"{', '.join(spec.directives)} shall be left out, and `because: {spec.because}` does not say why.",
        hint="Say in a few words what does not work with it: the unit, `plan` and `why` repeat it.",
    )
