"""Shipped files are found in a checkout and in a wheel, where they lie inside the package."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters.templates import examples_folder, read_templates


def test_a_checkout_has_them_beside_the_package() -> None:
    assert {"llama.service.j2", "instance.env.j2"} <= read_templates().keys()
    assert (examples_folder() / "laptop" / "models.yaml").is_file()


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "kloros_infra"
    for folder, text in ((tmp_path / "templates", "beside"), (package / "templates", "inside")):
        folder.mkdir(parents=True)
        (folder / "a.j2").write_text(text)
        (folder / "README.md").write_text("not a template")

    assert read_templates(package) == {"a.j2": "inside"}
