"""Texts that are headed for units and env files: each is refused at its place, or arrives as it was written."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.systemd_syntax import CONTROL, env_value, exec_word
from kloros_infra.ir.catalog import Catalog
from tests.factories import a_lock_for

CASES = Path(__file__).parents[2] / "cases" / "diagnostics"
PLAIN = (CASES / "nothing_wrong" / "models.yaml").read_text()
UNSAFE = st.text(alphabet=st.sampled_from("a%$\"'\\;#{}\n\r\t\x00\x1b\x7f\x85\u2028\u2029é😀 "), max_size=20)


def resolved(display_name: str, argument: str) -> Catalog | None:
    """Write two texts in double quotes, in which YAML reads JSON's escapes."""
    written = json.dumps(display_name, ensure_ascii=False), json.dumps(argument, ensure_ascii=False)
    text = PLAIN.replace("Small", f"{written[0]}\n    arguments: {{grammar: {written[1]}}}")
    parsed, problems = parse(text, file="models.yaml")
    if parsed is None:
        assert all(problem.span is not None and problem.span.line in (15, 16) for problem in problems)
        return None
    catalog, _ = resolve(parsed, a_lock_for(parsed.config))
    return catalog


@given(st.text(max_size=40) | UNSAFE, st.text(max_size=40) | UNSAFE)
def test_a_text_is_refused_or_arrives(display_name: str, argument: str) -> None:
    catalog = resolved(display_name, argument)

    has_control = CONTROL.search(display_name) or CONTROL.search(argument)
    if catalog is None:
        assert has_control or not (display_name + argument).isprintable()
    else:
        assert not has_control
        assert catalog.models[0].display_name == display_name
        assert catalog.instances[0].serving.arguments == (("grammar", argument),)
        assert "\n" not in exec_word(argument) + env_value(argument)


def test_what_units_could_expand_is_kept() -> None:
    parsed, _ = parse((CASES / "text_that_units_could_expand" / "models.yaml").read_text(), file="models.yaml")
    assert parsed is not None
    catalog, problems = resolve(parsed, a_lock_for(parsed.config))
    assert catalog is not None, problems

    assert catalog.models[0].display_name == r"""%n of %h, $HOME, ${PATH}, `id`, \\, "double" and 'single' ; #"""
    assert dict(catalog.instances[0].serving.arguments)["samplers"] == "$HOME;%n"
    assert catalog.personas[0].stop == ("\n\n", "%s")
