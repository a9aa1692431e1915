"""`modelctl pull`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, root_option


@click.command("pull")
@click.argument("model", metavar="MODEL-OR-ADDRESS")
@click.option("--quant", "quantization", metavar="NAME", help="Which quantization to take, such as Q4_K_M.")
@click.option("--name", metavar="NAME", help="Add to the model of this name, or call a new one so.")
@click.option("--promote", "is_promotion", is_flag=True, help="Make the version current at once.")
@file_option
@root_option
@manager_option
def command(  # noqa: PLR0913 - one parameter for each option, as click calls it
    model: str, quantization: str | None, name: str | None, *, is_promotion: bool, file: Path, root: Path, manager: str
) -> None:
    """Fetch weights: of a model in models.yaml, or from Hugging Face.

    An address on the hub is written as owner/repository:Q4_K_M, hf.co/owner/repository:Q4_K_M or
    hf://owner/repository/file.gguf. It becomes a version of the model that has weights from there, or a new model, in
    models.yaml and its lock. The weights are verified and stored below the root, where apply finds them.
    """
    from kloros_infra.cli.pulling import PullOptions, pull
    from kloros_infra.cli.wiring import target

    pull(file, model, PullOptions(quantization, name, is_promotion), target(root, manager))
