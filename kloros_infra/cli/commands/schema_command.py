"""`kloros-infra schema`."""

from __future__ import annotations

import click


@click.command("schema")
@click.option("--part", is_flag=True, help="The schema of files that models.yaml includes: nothing is required.")
def command(*, part: bool) -> None:
    """Print the JSON Schema of models.yaml, for editors.

    Any editor with the YAML language server checks and completes a file that begins with

    \b
    # yaml-language-server: $schema=models.schema.json
    """
    from kloros_infra.compiler.schema import (  # noqa: PLC0415 - start-up time
        models_schema,
        part_schema,
        schema_text,
    )

    click.echo(schema_text(part_schema() if part else models_schema()), nl=False)
