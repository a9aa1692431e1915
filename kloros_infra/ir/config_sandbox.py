"""What units may do beyond their sandbox: for all models in `sandbox.relax`, for one in its own `relax`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kloros_infra.ir.relaxation import SandboxDirective
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import Line


class RelaxSpec(Spec):
    """Lines of the sandbox that are left out, and why."""

    directives: Annotated[
        tuple[SandboxDirective, ...],
        Field(min_length=1),
        about("Directives of systemd.exec(5) that units go without.", ["MemoryDenyWriteExecute"]),
    ]
    because: Annotated[
        Line,
        about(
            "Why, in a few words: the unit, `plan` and `why` say it.",
            "the CUDA driver compiles kernels when it starts",
        ),
    ]
