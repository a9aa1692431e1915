"""`kloros-infra explain`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json

import click


@click.command("explain")
@click.argument("path", required=False)
@click.option("--recursive", is_flag=True, help="Show everything below as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, or a list of them where no PATH is given.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The whole reference as Markdown: docs/language.md.")
def command(path: str | None, *, recursive: bool, as_json: bool, as_markdown: bool) -> None:
    """Explain a setting of models.yaml: what it does, what may be written, its default, and an example.

    PATH is such as models.context_tokens, models[].profiles or profiles.max.gpus; the sections are listed without one.
    """
    from kloros_infra.compiler.reference import explain, setting_data, setting_lines
    from kloros_infra.compiler.reference_page import language_page
    from kloros_infra.compiler.setting_paths import find_setting
    from kloros_infra.compiler.settings import sections
    from kloros_infra.errors import ProblemsError

    if as_markdown:
        click.echo(language_page(), nl=False)
        return
    setting, problems = find_setting(path) if path is not None else (None, ())
    if problems:
        raise ProblemsError(problems)
    if as_json:
        data = [setting_data(one, is_recursive=recursive) for one in ((setting,) if setting else sections())]
        click.echo(json.dumps(data[0] if setting else data, indent=2, ensure_ascii=False))
        return
    lines = explain(setting, is_recursive=recursive) if setting else setting_lines(sections(), is_recursive=recursive)
    for line in lines:
        click.echo(line)
