"""The words that llama-server is started with: what has no LLAMA_ARG_* variable, and `arguments` of models.yaml.

Words on the command line outrank variables, and reach llama-server unchanged (`compiler.systemd_syntax.exec_start`).
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.ir.catalog import ArgumentValue, Instance
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.arguments import works_alone


def server_words(instance: Instance, placement: Placement) -> tuple[str, ...]:
    """List the words after the program's name; further arguments by name."""
    device = "none" if placement.head_device == CPU else placement.head_device
    draft = ("--spec-draft-device", device) if instance.model.draft is not None else ()
    further = (word for name, value in instance.serving.arguments for word in argument_words(name, value))
    alone = ("--no-op-offload",) if works_alone(placement) else ()
    return ("--alias", instance.model.name, *draft, *alone, *further)


def argument_words(name: str, value: ArgumentValue) -> Iterator[str]:
    """Write one argument: an option alone for true, its `no-` twin for false, several times for a list."""
    match value:
        case True:
            yield f"--{name}"
        case False:
            yield f"--no-{name}"
        case tuple():
            for item in value:
                yield from (f"--{name}", str(item))
        case _:
            yield from (f"--{name}", str(value))
