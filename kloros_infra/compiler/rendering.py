"""Fill the unit templates: they place values that the emitters computed, and decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jinja2

from kloros_infra.ir.layout import Layout

KLOROS_INFRA = "kloros-infra"
LLAMA_SERVER = "llama-server"
"""Names of launchers: small scripts that apply writes, because where programs lie is the machine's business."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What every emitter needs: where things live, and the templates."""

    layout: Layout
    environment: jinja2.Environment

    def text(self, template: str, **values: object) -> str:
        """Fill one template; a value that it names and does not get is an error."""
        return self.environment.get_template(template).render(values)

    def program(self, name: str) -> str:
        """Name a program by its launcher on the target."""
        return self.layout.absolute(self.layout.program_path(name))


def rendering(templates: Mapping[str, str], layout: Layout) -> Rendering:
    """Prepare template texts, by file name."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - unit files, not HTML; quoting is compiler.systemd_syntax's
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Rendering(layout, environment)
